-- Store one job that any worker may take at once, and wake one up. No row: the kind is new in this queue, and has no lane.
with lane as (
    select l.lane from sync_job_lane l where l.queue = $1::text and l.kind = $2::text),
body as (
    insert into sync_job_body (lane, priority, max_attempts, payload)
    select l.lane, $3::integer, $4::integer, $5::jsonb from lane l
    returning id, lane, priority),
ready as (
    insert into sync_job_ready (id, lane, priority) select b.id, b.lane, b.priority from body b)
select b.id, pg_notify('sync_job', '') from body b
