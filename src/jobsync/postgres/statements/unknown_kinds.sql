-- Kinds with jobs that wait in a queue which no live worker serves for that kind.
with waiting as (
    select r.lane from sync_job_ready r
    union all
    select g.lane from sync_job_gated g
    union all
    select b.lane from sync_job_later t join sync_job_body b on b.id = t.id)
select n.queue, n.kind, w.jobs
from (select a.lane, count(*) as jobs from waiting a group by a.lane) w
join sync_job_lane n on n.lane = w.lane
where not exists (
    select from sync_job_worker k
    join sync_node d on d.incarnation = k.incarnation and d.state <> 'fenced'
    where k.queues ? n.queue and (k.kinds @> 'null' or k.kinds ? n.kind))
order by n.queue, n.kind
