-- Remove the locks of one creator, or all of them (null). Gives how many there were.
with serial as materialized (
    select pg_advisory_xact_lock(hashtext('sync_lock'))
), gone as (
    delete from sync_lock l using serial
    where $1::text is null or l.created_by = $1::text
    returning l.task_id
)
select count(*)::integer from gone
