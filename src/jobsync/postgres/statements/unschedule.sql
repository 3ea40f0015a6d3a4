-- Enqueue a periodic job no more; what was enqueued stays. One row if there was one.
delete from sync_job_periodic p where p.name = $1::text returning p.name
