-- Remove the lock of one task. Gives how many there were.
with serial as materialized (
    select pg_advisory_xact_lock(hashtext('sync_lock'))
), gone as (
    delete from sync_lock l using serial
    where l.task_id = $1::text
    returning l.task_id
)
select count(*)::integer from gone
