-- Let the jobs that were copied be taken.
copy sync_job_ready (id, lane, priority) from stdin
