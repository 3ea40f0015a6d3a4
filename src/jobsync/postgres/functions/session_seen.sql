-- Whether the server still has the session that a node bound. A backend_start hidden from this role counts as seen.
create or replace function sync_session_seen(_backend_pid integer, _backend_start timestamptz) returns boolean
language sql volatile as $$
    select exists (
        select from pg_stat_get_activity(_backend_pid) a
        where a.backend_start is null or a.backend_start = _backend_start)
$$;
