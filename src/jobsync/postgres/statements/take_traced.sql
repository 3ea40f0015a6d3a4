-- What sync_job_take gives, in the columns of a gated take, and for each job the trace in which it was enqueued.
select t.epoch, t.id, t.lane, t.priority, t.attempts, t.crashes, t.max_attempts, t.created_at, t.job_id, t.payload, t.place,
       null::text as affinity, null::integer as token, sync_job_trace_context(t.id) as trace_context
from sync_job_take($1::text, $2::bigint, $3::integer[], $4::integer, $5::integer) t
