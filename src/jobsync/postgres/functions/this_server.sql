-- The identity of the server that carries this out: that of its data, and the timeline that it writes.
create or replace function sync_this_server(out system_id text, out timeline text)
language sql as $$
    select c.system_identifier::text, substring(pg_walfile_name(pg_current_wal_lsn()) from 1 for 8) from pg_control_system() c
$$;
