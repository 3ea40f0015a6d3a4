-- What sync_job_take_gated gives, and for each job the trace in which it was enqueued.
select t.*, sync_job_trace_context(t.id) as trace_context
from sync_job_take_gated($1::text, $2::bigint, $3::text, $4::integer[], $5::integer, $6::integer, $7::boolean, $8::integer, $9::integer) t
