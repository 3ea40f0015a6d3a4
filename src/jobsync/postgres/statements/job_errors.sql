-- What went wrong with a job, the oldest first.
select e.attempt::integer, e.worker, e.at, e.crashed, e.error, e.epoch, t.taken_at
from sync_job_error e
left join lateral (select t.taken_at from sync_job_taken t where t.epoch = e.epoch limit 1) t on true
where e.id = $1::bigint
order by e.at, e.attempt
