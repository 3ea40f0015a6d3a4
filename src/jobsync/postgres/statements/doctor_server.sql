-- The server as it bears on a fleet. oldest_xact_sec: how long the oldest transaction or snapshot of anybody holds vacuum back.
select current_setting('server_version') as version,
       pg_is_in_recovery() as standby,
       current_setting('fsync') = 'on' as durable,
       session_user::text as role,
       clock_timestamp() as now,
       pg_backend_pid() as backend_pid,
       inet_client_port() as client_port,
       (select count(*)::integer from pg_stat_activity a where a.backend_type = 'client backend') as sessions,
       current_setting('max_connections')::integer as max_sessions,
       current_setting('autovacuum') = 'on' as autovacuum,
       current_setting('server_encoding') as encoding
