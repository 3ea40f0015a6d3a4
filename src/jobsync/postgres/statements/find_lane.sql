-- The lane of a kind in a queue, if it has one.
select l.lane from sync_job_lane l where l.queue = $1::text and l.kind = $2::text
