-- Continue an incarnation on a new session. From here on no statement of the older session changes anything.
-- Attempts are counted by the node: one that was sent on an older session and is carried out late, after a later one,
-- must not take the row back. No row: the incarnation was fenced, or the attempt is late.
create or replace function sync_rebind(_name text, _incarnation bigint, _attempt integer, _session_lease_ms integer,
                                       _system_id text, _timeline text)
returns table (bind bigint, generation bigint, quarantined boolean)
language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '150ms', true);
    -- First, since a bind is drawn next, and no number of a lost commit may be given again.
    select r.generation, r.quarantined into sync_rebind.generation, sync_rebind.quarantined
    from sync_recognise_server(_system_id, _timeline) r;
    update sync_node n set
        bind = nextval('sync_epoch'), beats = n.beats + 1, last_heartbeat = clock_timestamp(),
        session_lease_ms = _session_lease_ms, backend_pid = pg_backend_pid(), backend_start = a.backend_start,
        postmaster_start = pg_postmaster_start_time(), rebind_attempt = _attempt
    from pg_stat_get_activity(pg_backend_pid()) a
    where n.name = _name and n.incarnation = _incarnation and n.state <> 'fenced'
      and n.rebind_attempt < _attempt
    returning n.bind into sync_rebind.bind;
    if found then
        return next;
    end if;
end $$;
