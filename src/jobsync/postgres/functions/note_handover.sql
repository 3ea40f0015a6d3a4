-- Write down that tokens which were nobody's have been granted (by sync_grow, one at a time): each piece has been without an
-- owner since an instant of its own, and what is left of such a piece still is.
create or replace function sync_note_handover(_name text, _epoch bigint, _plan_version bigint, _tokens int4multirange) returns void
language sql as $$
    with uncovered as (
        delete from sync_handover h where h.granted_at is null and h.tokens && _tokens
        returning h.tokens, h.from_node, h.uncovered_at, h.fence_rule, h.plan_version
    ), never_owned as (
        select _tokens - coalesce((select range_agg(r) from uncovered u, unnest(u.tokens) r), '{}') as tokens
    )
    insert into sync_handover (tokens, from_node, uncovered_at, fence_rule, to_node, epoch, plan_version, granted_at)
    select u.tokens * _tokens, u.from_node, u.uncovered_at, u.fence_rule, _name, _epoch, coalesce(u.plan_version, _plan_version),
           clock_timestamp()
    from uncovered u
    union all
    select u.tokens - _tokens, u.from_node, u.uncovered_at, u.fence_rule, null, null, u.plan_version, null
    from uncovered u where not isempty(u.tokens - _tokens)
    union all
    select o.tokens, null, null, null, _name, _epoch, _plan_version, clock_timestamp()
    from never_owned o where not isempty(o.tokens)
$$;
