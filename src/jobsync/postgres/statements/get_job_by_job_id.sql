-- One job by the caller's own key. The id first, by the key's index: the view is quick by id.
select j.id, j.job_id, j.queue, j.kind, j.payload::text, j.status, j.priority, j.progress, j.progress_message, j.attempts, j.crashes,
       j.max_attempts, j.locked_by, j.locked_until, j.run_at, j.last_error, j.result::text, j.affinity, j.created_at, j.updated_at,
       j.finished_at, j.attempt, j.limit_key, t.worker, t.taken_at
from sync_job j
left join lateral (select t.worker, t.taken_at from sync_job_taken t where t.epoch = j.attempt limit 1) t on true
where j.id = (select b.id from sync_job_body b where b.job_id = $1::text)
