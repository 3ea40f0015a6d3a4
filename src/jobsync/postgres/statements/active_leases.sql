-- The jobs that workers have taken, by worker and id.
select u.id, n.kind, s.worker, s.locked_until, s.epoch, u.attempts::integer, coalesce(p.progress, 0)
from sync_job_lease s
cross join lateral unnest(s.ids, s.attempts) u(id, attempts)
join sync_job_body b on b.id = u.id
join sync_job_lane n on n.lane = b.lane
left join sync_job_progress p on p.id = u.id
where u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id)
order by s.worker, u.id
