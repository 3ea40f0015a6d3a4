-- Who is at the other end: asked first on every new session, before any table is touched.
select pg_backend_pid() as backend_pid,
       inet_client_addr()::text as client_address,
       inet_client_port() as client_port,
       current_setting('server_version_num')::integer as server_version,
       current_setting('fsync') = 'on' as durable,
       pg_is_in_recovery() as standby,
       case when not pg_is_in_recovery() then
           (select system_identifier::text from pg_control_system()) end as system_id,
       case when not pg_is_in_recovery() then
           substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8) end as timeline,
       to_regclass('sync_meta') is not null as installed,
       current_date as today
