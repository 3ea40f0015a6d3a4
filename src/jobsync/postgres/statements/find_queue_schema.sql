-- The schema in which the queue's tables are found on this connection.
select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass('sync_job_body')
