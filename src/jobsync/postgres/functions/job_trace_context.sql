-- The trace in which a job was enqueued; null: in none. Volatile, as functions are unless they say otherwise, so that it sees the jobs
-- that the statement around it takes, which may be younger than that statement.
create or replace function sync_job_trace_context(_id bigint) returns text
language sql volatile as $$
    select b.trace_context from sync_job_body b where b.id = _id
$$;
