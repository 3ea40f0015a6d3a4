-- How the queue is at this moment. drawn: how many numbers of jobs were ever given out, of which a rate can be made;
-- ended, failed: in the last ten seconds; oldest_sec: for how long the longest-waiting job has been there.
select (select count(*) from sync_job_ready) + (select count(*) from sync_job_gated) as waiting,
       (select count(*) from sync_job_later) as later,
       (select count(*) from sync_job_lease l cross join lateral unnest(l.ids) u(id)
        where u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id)) as running,
       (select extract(epoch from clock_timestamp() - b.created_at)::float8
        from sync_job_body b
        where b.id = least((select min(r.id) from sync_job_ready r), (select min(g.id) from sync_job_gated g))) as oldest_sec,
       (select case when s.is_called then s.last_value else 0 end from sync_job_number s) as drawn,
       count(*) as ended,
       count(*) filter (where e.status = 'failed') as failed,
       (select count(*)::integer from sync_job_worker w
        join sync_node n on n.incarnation = w.incarnation and n.state <> 'fenced') as workers
from sync_job_end e
where e.finished_at > clock_timestamp() - interval '10 seconds'
