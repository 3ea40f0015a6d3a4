-- Tell idle workers, when this commits, that there is something to do.
select pg_notify('sync_job', '')
