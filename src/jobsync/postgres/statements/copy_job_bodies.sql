-- Write down plain jobs under ids that were drawn before.
copy sync_job_body (id, lane, priority, max_attempts, payload) from stdin
