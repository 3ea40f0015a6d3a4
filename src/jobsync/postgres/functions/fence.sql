-- The only way to take tokens from another node. The caller has, on its own clock, seen
--   rule A  the same number of beats for longer than the node's row lease, or
--   rule B  the node's bound session absent for longer than the node's session lease;
-- this function checks under the node's row lock that it is still so. It never waits for a lock.
-- False: the node has moved on, or is fenced already.
--   _silent_ms  how long ago, by its own clock, the caller last saw the node alive; null: never. It decides nothing.
create or replace function sync_fence(_name text, _incarnation bigint, _bind bigint, _beats bigint, _rule text,
                                      _silent_ms bigint) returns boolean
language plpgsql as $$
declare
    suspect sync_node;
begin
    perform set_config('synchronous_commit', 'on', true);
    if _rule is null or _rule not in ('A', 'B') then
        raise exception 'a node is fenced by rule A or B, not by %', coalesce(_rule, 'null');
    end if;
    select * into suspect from sync_node n where n.name = _name for update nowait;
    if not found or suspect.state = 'fenced'
       or (suspect.incarnation, suspect.bind) is distinct from (_incarnation, _bind) then
        return false;
    end if;
    if _rule = 'A' and suspect.beats is distinct from _beats then
        return false;
    end if;
    -- PostgreSQL caches session status for a transaction, so this first look comes after the row lock.
    if _rule = 'B' and (suspect.session_lease_ms is null
                        or suspect.postmaster_start <> pg_postmaster_start_time()
                        or sync_session_seen(suspect.backend_pid, suspect.backend_start)) then
        return false;
    end if;
    perform from sync_grant g where g.node = _name order by g.epoch for update nowait;
    perform sync_notify_takers(_name, g.tokens) from sync_grant g where g.node = _name;
    -- When it died nobody knows: some time after it was last seen alive.
    insert into sync_handover (tokens, from_node, uncovered_at, fence_rule)
    select range_agg(r), _name, coalesce(clock_timestamp() - _silent_ms * interval '1 ms', suspect.last_heartbeat), _rule
    from sync_grant g, unnest(g.tokens) r where g.node = _name
    having count(*) > 0;
    delete from sync_grant g where g.node = _name;
    if suspect.delete_requested then
        update sync_node n set state = 'fenced' where n.name = _name;
        delete from sync_node n where n.name = _name;
    else
        -- A program that does not tell its version may come next under this name, and must not pass for this one's.
        -- The heartbeat is set behind the timeout, so that people's 'active nodes' queries agree at once.
        update sync_node n set state = 'fenced', schema_version = null, last_heartbeat = least(n.last_heartbeat,
            clock_timestamp() - greatest(n.heartbeat_timeout_ms, 15000) * interval '1 ms' - interval '1 second')
        where n.name = _name;
    end if;
    perform sync_notify_leader();
    -- Whoever works on the queue takes back at once what the dead had leased.
    perform pg_notify('sync_job', '');
    return true;
end $$;
