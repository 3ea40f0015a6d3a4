-- Enter the fleet under a name that is new, or whose last holder is fenced. The outcome is one of
--   registered  the row is this caller's, under a new incarnation and bind
--   held        another incarnation has the name and is not fenced: watch it, fence it if it is dead, ask again
--   mismatch    others run with another total_tokens or hash_function (given back): watch them likewise
create or replace function sync_register(
    _name text, _total_tokens integer, _hash_function text, _heartbeat_timeout_ms integer, _row_lease_ms integer,
    _session_lease_ms integer, _system_id text, _timeline text, _host text, _pid integer, _environment text,
    _takes_tokens boolean, _schema_version integer,
    out outcome text, out incarnation bigint, out bind bigint, out total_tokens integer, out hash_function text,
    out generation bigint, out quarantined boolean)
language plpgsql as $$
declare
    agreed sync_meta;
begin
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '2s', true);
    -- A look without a lock says which lock is needed: two that shared one and then both wanted more would deadlock.
    select * into agreed from sync_meta m;
    if (agreed.total_tokens, agreed.hash_function) is distinct from (_total_tokens, _hash_function) then
        select * into agreed from sync_meta m for update;
    else
        select * into agreed from sync_meta m for key share;
    end if;
    -- Read behind the lock, which a removal of what old programs need takes, too: who came before it was seen by it.
    if _schema_version < agreed.oldest_program then
        raise exception 'this program is of version %, and the oldest that they let live is %', _schema_version, agreed.oldest_program
            using errcode = '42000';
    end if;
    if (agreed.total_tokens, agreed.hash_function) is distinct from (_total_tokens, _hash_function) then
        if exists (select from sync_node n where n.state <> 'fenced') then
            outcome := 'mismatch';
            total_tokens := agreed.total_tokens;
            hash_function := agreed.hash_function;
            return;
        end if;
        -- Nobody is left who believes in the old numbers (fencing took every grant), so the new ones are taken.
        delete from sync_target;
        delete from sync_handover h where h.granted_at is null;
        update sync_lock l set token_id = sync_token_of(l.task_id, _hash_function, _total_tokens);
        -- Who reads the old numbers now and puts a job to the gate with them would be missed: it is waited for.
        lock table sync_job_gated in share row exclusive mode;
        update sync_job_gated g set token = sync_token_of(g.affinity, _hash_function, _total_tokens) where g.affinity is not null;
        update sync_meta m set total_tokens = _total_tokens, hash_function = _hash_function;
    end if;
    select r.generation, r.quarantined into sync_register.generation, sync_register.quarantined
    from sync_recognise_server(_system_id, _timeline) r;

    insert into sync_node as n (name, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, session_lease_ms,
                                backend_pid, backend_start, postmaster_start, host, pid, environment, takes_tokens, schema_version)
    select _name, nextval('sync_epoch'), nextval('sync_epoch'), _heartbeat_timeout_ms, _row_lease_ms, _session_lease_ms,
           pg_backend_pid(), a.backend_start, pg_postmaster_start_time(), _host, _pid, _environment, _takes_tokens,
           _schema_version
    from pg_stat_get_activity(pg_backend_pid()) a
    on conflict (name) do update set
        created_on = clock_timestamp(), last_heartbeat = clock_timestamp(), state = 'live',
        incarnation = excluded.incarnation, bind = excluded.bind, beats = n.beats + 1,
        heartbeat_timeout_ms = excluded.heartbeat_timeout_ms, row_lease_ms = excluded.row_lease_ms,
        session_lease_ms = excluded.session_lease_ms, backend_pid = excluded.backend_pid,
        backend_start = excluded.backend_start, postmaster_start = excluded.postmaster_start,
        rebind_attempt = 0, applied_version = 0, delete_requested = false, host = excluded.host, pid = excluded.pid,
        environment = excluded.environment, takes_tokens = excluded.takes_tokens,
        schema_version = excluded.schema_version
    where n.state = 'fenced'
    returning n.incarnation, n.bind into sync_register.incarnation, sync_register.bind;

    if not found then
        outcome := 'held';
        return;
    end if;
    outcome := 'registered';
    perform sync_notify_leader();
end $$;
