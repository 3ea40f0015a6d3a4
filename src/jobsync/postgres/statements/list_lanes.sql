-- Every lane: a kind of jobs in a queue.
select n.lane, n.queue, n.kind from sync_job_lane n
