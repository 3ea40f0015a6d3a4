-- What one node ($1) still has: tokens of the pool, and jobs that were taken and have not ended.
select (select coalesce(sum(upper(r) - lower(r)), 0)::integer
        from sync_grant g, unnest(g.tokens - '{[-1,0)}') r where g.node = $1::text) as tokens,
       (select count(*)::integer
        from sync_node n
        join sync_job_lease l on l.incarnation = n.incarnation
        cross join lateral unnest(l.ids) u(id)
        where n.name = $1::text and u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id)) as jobs
