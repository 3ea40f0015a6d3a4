-- Write down plain jobs under ids that were drawn before, and the trace in which they are enqueued.
copy sync_job_body (id, lane, priority, max_attempts, trace_context, payload) from stdin
