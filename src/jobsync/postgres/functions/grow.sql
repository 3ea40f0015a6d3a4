-- Take everything that the plan wants for this node and that nobody holds. One short transaction under one lock,
-- for which it waits briefly: sessions that grow side by side would deadlock on the exclusion constraint.
--   granted      a grant was made (epoch, tokens)
--   nothing      all of it is held, or nothing is wanted
--   quarantined  nothing is granted until the quarantine after a fail-over is lifted
--   fenced       the incarnation or its bind is not current
--   _system_id, _timeline   given behind a pooler: the server whose quarantine, if any, this node has waited for
create or replace function sync_grow(_name text, _incarnation bigint, _bind bigint,
                                     _system_id text, _timeline text,
                                     out outcome text, out epoch bigint, out tokens text)
language plpgsql as $$
declare
    want int4multirange;
    held int4multirange;
    version bigint;
begin
    if _system_id is not null then
        perform sync_require_server(_system_id, _timeline);
    end if;
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '150ms', true);
    perform pg_advisory_xact_lock(hashtext('sync_grant'));
    perform from sync_node n
    where n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state = 'live'
    for no key update;
    if not found then
        outcome := 'fenced';
        return;
    end if;
    if (select m.quarantined from sync_meta m) then
        outcome := 'quarantined';
        return;
    end if;
    -- A target made for the other kind of node, which this name was before, is none of this node's.
    select t.tokens, t.plan_version into want, version
    from sync_target t join sync_node n on n.name = t.node and n.takes_tokens = t.takes_tokens
    where t.node = _name;
    -- Only the grants that overlap what is wanted are read, never the union of all.
    select range_agg(r) into held from sync_grant g, unnest(g.tokens) r where g.tokens && want;
    want := want - coalesce(held, '{}');
    if want is null or isempty(want) then
        outcome := 'nothing';
        return;
    end if;
    outcome := 'granted';
    epoch := nextval('sync_epoch');
    tokens := want::text;
    insert into sync_grant (epoch, node, incarnation, tokens) values (sync_grow.epoch, _name, _incarnation, want);
    perform sync_note_handover(_name, sync_grow.epoch, version, want);
    perform sync_note_applied(_name);
end $$;
