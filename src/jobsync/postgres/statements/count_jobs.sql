-- How many jobs have each status, in one queue or in all (null).
with waiting as (
    select r.lane, r.attempts from sync_job_ready r
    union all
    select g.lane, g.attempts from sync_job_gated g
    union all
    select b.lane, t.attempts from sync_job_later t join sync_job_body b on b.id = t.id),
every as (
    select case when w.attempts = 0 then 'pending' else 'retry' end as status
    from waiting w
    where $1::text is null or w.lane in (select l.lane from sync_job_lane l where l.queue = $1::text)
    union all
    select 'processing'
    from sync_job_lease s cross join lateral unnest(s.ids) u(id)
    where u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id)
      and ($1::text is null
           or exists (select from sync_job_body b join sync_job_lane l on l.lane = b.lane where b.id = u.id and l.queue = $1::text))
    union all
    select e.status from sync_job_end e where $1::text is null
    union all
    select e.status from sync_job_end e
    join sync_job_body b on b.id = e.id
    where $1::text is not null and b.lane in (select l.lane from sync_job_lane l where l.queue = $1::text))
select v.status, count(*) from every v group by v.status
