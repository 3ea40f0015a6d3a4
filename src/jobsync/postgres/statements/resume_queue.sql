-- Let a queue run again, and wake whoever waits for its jobs.
with resumed as (delete from sync_job_pause p where p.queue = $1::text returning p.queue)
select pg_notify('sync_job', '') from resumed
