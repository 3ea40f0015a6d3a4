-- Jobs, newest first: of one status, kind and queue, or of all (null); at most $5, with ids below $4.
-- Which ones is found in the table that holds the status, and only these are looked at through the view. Where no such lane is
-- known, nothing is read: all that ever ended would be looked through for it.
with lanes as materialized (
    select array(select l.lane from sync_job_lane l
                 where ($2::text is null or l.kind = $2::text) and ($3::text is null or l.queue = $3::text)) as wanted),
chosen as (
    (select b.id from sync_job_body b
     where $1::text is null and (select wanted <> '{}' from lanes) and b.lane = any ((select wanted from lanes)::integer[])
       and ($4::bigint is null or b.id < $4::bigint)
     order by b.id desc limit $5::integer)
    union all
    (select r.id from sync_job_ready r
     where $1::text in ('pending', 'retry') and (r.attempts = 0) = ($1::text = 'pending')
       and r.lane = any ((select wanted from lanes)::integer[]) and ($4::bigint is null or r.id < $4::bigint)
     order by r.id desc limit $5::integer)
    union all
    (select g.id from sync_job_gated g
     where $1::text in ('pending', 'retry') and (g.attempts = 0) = ($1::text = 'pending')
       and g.lane = any ((select wanted from lanes)::integer[]) and ($4::bigint is null or g.id < $4::bigint)
     order by g.id desc limit $5::integer)
    union all
    (select t.id from sync_job_later t join sync_job_body b on b.id = t.id
     where $1::text in ('pending', 'retry') and (t.attempts = 0) = ($1::text = 'pending')
       and b.lane = any ((select wanted from lanes)::integer[]) and ($4::bigint is null or t.id < $4::bigint)
     order by t.id desc limit $5::integer)
    union all
    (select u.id from sync_job_lease s cross join lateral unnest(s.ids) u(id) join sync_job_body b on b.id = u.id
     where $1::text = 'processing' and not exists (select from sync_job_end f where f.id = u.id)
       and b.lane = any ((select wanted from lanes)::integer[]) and ($4::bigint is null or u.id < $4::bigint)
     order by u.id desc limit $5::integer)
    union all
    (select e.id from sync_job_end e join sync_job_body b on b.id = e.id
     where $1::text = 'done' and e.status = 'done' and (select wanted <> '{}' from lanes)
       and b.lane = any ((select wanted from lanes)::integer[]) and ($4::bigint is null or e.id < $4::bigint)
     order by e.id desc limit $5::integer)
    union all
    (select e.id from sync_job_end e join sync_job_body b on b.id = e.id
     where $1::text in ('failed', 'cancelled') and (select wanted <> '{}' from lanes) and e.status <> 'done' and e.status = $1::text
       and b.lane = any ((select wanted from lanes)::integer[]) and ($4::bigint is null or e.id < $4::bigint)
     order by e.id desc limit $5::integer))
select j.id, j.job_id, j.queue, j.kind, j.payload::text, j.status, j.priority, j.progress, j.progress_message, j.attempts, j.crashes,
       j.max_attempts, j.locked_by, j.locked_until, j.run_at, j.last_error, j.result::text, j.affinity, j.created_at, j.updated_at,
       j.finished_at, j.attempt, j.limit_key, t.worker, t.taken_at
from (select c.id from chosen c order by c.id desc limit $5::integer) c
-- The offset keeps the view from being read as a whole.
cross join lateral (select * from sync_job v where v.id = c.id offset 0) j
left join lateral (select t.worker, t.taken_at from sync_job_taken t where t.epoch = j.attempt limit 1) t on true
order by j.id desc
