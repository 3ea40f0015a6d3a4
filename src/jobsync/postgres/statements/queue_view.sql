-- All that the live page and the fleet's metrics show of the queue: one row, in one statement.
-- What has ended is counted for the last minute only, and what failed by its own index: done jobs may be millions.
with waiting as (
    select r.lane, count(*) filter (where r.attempts = 0) as pending, count(*) filter (where r.attempts > 0) as retry, min(r.id) as oldest
    from sync_job_ready r group by r.lane
    union all
    select g.lane, count(*) filter (where g.attempts = 0), count(*) filter (where g.attempts > 0), min(g.id)
    from sync_job_gated g group by g.lane),
later as (
    select b.lane, count(*) filter (where t.attempts = 0) as pending, count(*) filter (where t.attempts > 0) as retry
    from sync_job_later t join sync_job_body b on b.id = t.id group by b.lane),
running as (
    select b.lane, count(*) as processing
    from sync_job_lease l cross join lateral unnest(l.ids) u(id) join sync_job_body b on b.id = u.id
    where u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id) group by b.lane),
lanes as (
    select n.queue, n.kind, coalesce(w.pending, 0) as pending, coalesce(w.retry, 0) as retry, coalesce(s.pending, 0) as scheduled,
           coalesce(s.retry, 0) as backing_off, coalesce(r.processing, 0) as processing,
           (select extract(epoch from clock_timestamp() - b.created_at) from sync_job_body b where b.id = w.oldest) as oldest_sec
    from sync_job_lane n
    left join (select a.lane, sum(a.pending) as pending, sum(a.retry) as retry, min(a.oldest) as oldest from waiting a group by a.lane) w
           on w.lane = n.lane
    left join later s on s.lane = n.lane
    left join running r on r.lane = n.lane)
select (select json_agg(json_build_array(l.queue, l.kind, l.pending, l.retry, l.scheduled, l.backing_off, l.processing, l.oldest_sec)
                        order by l.queue, l.kind) from lanes l) as lanes,
       (select count(*) from sync_job_end e where e.status <> 'done' and e.status = 'failed') as failed,
       (select count(*) from sync_job_end e where e.status <> 'done' and e.status = 'cancelled') as cancelled,
       (select json_build_array(count(*) filter (where e.status = 'done'), count(*) filter (where e.status = 'failed'))
        from sync_job_end e where e.finished_at > clock_timestamp() - interval '1 minute') as last_minute,
       (select json_agg(json_build_array(p.queue, extract(epoch from p.paused_at), p.paused_by) order by p.queue)
        from sync_job_pause p) as pauses,
       (select count(*)::integer from sync_job_worker k
        join sync_node d on d.incarnation = k.incarnation and d.state <> 'fenced') as workers
