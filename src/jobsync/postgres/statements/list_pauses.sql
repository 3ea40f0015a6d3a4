-- The queues that are paused.
select p.queue, p.paused_at, p.paused_by from sync_job_pause p order by p.queue
