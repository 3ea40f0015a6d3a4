-- What went wrong with a job, the oldest first.
select e.attempt::integer, e.worker, e.at, e.crashed, e.error, e.epoch
from sync_job_error e
where e.id = $1::bigint
order by e.at, e.attempt
