-- Cancel up to $5 jobs of one kind, queue and status, or of all (null), that were enqueued before $4.
with lanes as (
    select l.lane from sync_job_lane l
    where ($1::text is null or l.kind = $1::text) and ($2::text is null or l.queue = $2::text)),
chosen as (
    select r.id, case when r.attempts = 0 then 'pending' else 'retry' end as status
    from sync_job_ready r where r.lane in (select lane from lanes)
    union all
    select g.id, case when g.attempts = 0 then 'pending' else 'retry' end
    from sync_job_gated g where g.lane in (select lane from lanes)
    union all
    select t.id, case when t.attempts = 0 then 'pending' else 'retry' end
    from sync_job_later t join sync_job_body b on b.id = t.id where b.lane in (select lane from lanes)
    union all
    select u.id, 'processing'
    from sync_job_lease s cross join lateral unnest(s.ids) u(id) join sync_job_body b on b.id = u.id
    where not exists (select from sync_job_end e where e.id = u.id) and b.lane in (select lane from lanes))
select count(*)
from sync_job_cancel(array(
    select c.id from chosen c
    where ($3::text is null or c.status = $3::text) and c.id <= $4::bigint
    limit $5::integer))
