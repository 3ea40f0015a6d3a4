-- jobsync schema, version 5: the trace in which a job was enqueued, carried to whoever runs it.
--
-- Null wherever nobody traces, and then it takes no room: a row of bodies has nulls anyhow. Programs of before name the columns that
-- they write, and go on.
alter table sync_job_body add column trace_context text;  -- W3C: the traceparent, and behind a blank the tracestate if there is one
