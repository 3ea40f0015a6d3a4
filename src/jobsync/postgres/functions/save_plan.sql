-- Write the leader's plan, if nobody has planned since its inputs were read. Targets grant nothing, so a stale
-- leader can do no harm here. Null: the plan is stale (read again) or the caller is no live node.
-- _targets maps the nodes whose target changed to multiranges; _nodes maps all that the plan is for to whether they take tokens.
create or replace function sync_save_plan(
    _name text, _incarnation bigint, _bind bigint, _plan_version bigint, _lock_version bigint, _nodes jsonb, _targets jsonb,
    _reason text, _nodes_before integer, _tokens_moved integer, _moves jsonb, _began_at timestamptz)
returns bigint
language plpgsql as $$
declare
    version bigint;
    swept integer := 0;
    another_leads boolean;
begin
    -- A plan grants nothing: one that a crash loses is made again. The grants that follow it flush it with themselves.
    perform set_config('synchronous_commit', 'off', true);
    perform set_config('lock_timeout', '150ms', true);
    perform pg_advisory_xact_lock(hashtext('sync_plan'));
    if not exists (select from sync_node n where n.name = _name and n.incarnation = _incarnation and n.bind = _bind
                   and n.state = 'live') then
        return null;
    end if;
    if exists (select from sync_lock l where l.expires_at <= _began_at) then
        delete from sync_lock l where l.expires_at <= _began_at;
        -- The sweep itself raised lock_version by one, and this plan has taken it into account. Where another was quicker, it was
        -- he who raised it, and he may have changed more than this plan knows of.
        swept := found::integer;
    end if;
    if exists (select from sync_steering s where s.ended_at is null and s.ends_at <= _began_at) then
        update sync_steering s set ended_at = clock_timestamp(), ended_by = 'its end'
        where s.ended_at is null and s.ends_at <= _began_at;
        swept := swept + found::integer;
    end if;
    -- The right to lead, token -1, is none of the tokens that are counted, but who gains or loses it must hear of it.
    another_leads := exists (
        select from jsonb_each_text(_targets) e
        where e.value::int4multirange @> -1
          and not exists (select from sync_target t where t.node = e.key and t.tokens @> -1));
    update sync_meta m set
        plan_version = m.plan_version + (_tokens_moved > 0 or another_leads)::int,
        planned_lock_version = _lock_version + swept
    where m.plan_version = _plan_version
    returning m.plan_version into version;
    if not found then
        return null;
    end if;
    -- What fenced nodes and those who left had is dealt anew by this one.
    update sync_handover h set plan_version = version where h.granted_at is null and h.plan_version is null and _tokens_moved > 0;
    delete from sync_target t where not _nodes ? t.node;
    insert into sync_target as t (node, tokens, plan_version, takes_tokens)
    select e.key, e.value::int4multirange, version, (_nodes -> e.key)::boolean from jsonb_each_text(_targets) e
    on conflict (node) do update set tokens = excluded.tokens, plan_version = excluded.plan_version,
        takes_tokens = excluded.takes_tokens;
    if _tokens_moved > 0 then
        insert into sync_rebalance (trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms,
                                    moves, plan_version)
        values (_reason, _name, _nodes_before, (select count(*) from jsonb_each(_nodes) e where e.value::boolean),
                _tokens_moved, extract(epoch from clock_timestamp() - _began_at) * 1000, _moves, version);
    end if;
    perform pg_notify('sync_plan', '');
    return version;
end $$;
