-- What a simulation puts in the place of the server's outer world: its clock, its list of sessions, its start, its dice.
-- The functions bear the names of PostgreSQL's own and stand in a schema that the search path names before pg_catalog, so
-- the product's SQL runs as it is, without a word for simulations. Whoever asks, says when and on which session by settings:
--   virtual.now   the database's clock, in seconds since 1970
--   virtual.pid   the session that the statement is sent on
--   virtual.boot  when the server was started, in seconds since 1970
--   virtual.system, virtual.timeline   which server it is: a fail-over changes them
--   virtual.seed  what random numbers are drawn from
create schema sync_virtual;
set search_path = sync_virtual, pg_catalog;

-- The sessions that the simulated server still has.
create unlogged table session (pid integer primary key, backend_start timestamptz not null);

create sequence dice;

create function clock_timestamp() returns timestamptz language sql volatile
as $$ select to_timestamp(current_setting('virtual.now')::double precision) $$;

create function pg_backend_pid() returns integer language sql volatile
as $$ select current_setting('virtual.pid')::integer $$;

create function pg_postmaster_start_time() returns timestamptz language sql volatile
as $$ select to_timestamp(current_setting('virtual.boot')::double precision) $$;

create function pg_stat_get_activity(_pid integer) returns table (backend_start timestamptz) language sql volatile
as $$ select s.backend_start from sync_virtual.session s where s.pid = _pid $$;

create function pg_control_system() returns table (system_identifier text) language sql volatile
as $$ select current_setting('virtual.system') $$;

create function pg_walfile_name(_lsn pg_lsn) returns text language sql volatile
as $$ select current_setting('virtual.timeline') $$;

create function gen_random_uuid() returns uuid language sql volatile
as $$ select md5(current_setting('virtual.seed') || ' ' || nextval('sync_virtual.dice'))::uuid $$;
