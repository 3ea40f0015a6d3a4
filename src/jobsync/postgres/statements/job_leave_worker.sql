delete from sync_job_worker w where w.incarnation = $1 and w.worker = $2
