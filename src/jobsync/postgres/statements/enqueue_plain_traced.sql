-- The same as enqueue_plain, for a job that is enqueued in a trace. Apart, so that the common one stays as it is.
with lane as (
    select l.lane from sync_job_lane l where l.queue = $1::text and l.kind = $2::text
),
body as (
    insert into sync_job_body (lane, priority, max_attempts, payload, trace_context)
    select lane.lane, $3::integer, $4::integer, $5::jsonb, $6::text from lane
    returning id, lane, priority
),
ready as (
    insert into sync_job_ready (id, lane, priority)
    select body.id, body.lane, body.priority from body
    returning id
)
select ready.id, pg_notify('sync_job', '') from ready
