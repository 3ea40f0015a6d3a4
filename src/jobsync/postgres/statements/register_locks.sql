-- Pin tasks to nodes. One row a task: registering again replaces what was said, but keeps its place in the order by which
-- the first of two locks on one token decides. A row that would not change is left alone, so that a fleet which registers
-- the same list at every start plans nothing anew.
with serial as materialized (
    select pg_advisory_xact_lock(hashtext('sync_lock'))
)
insert into sync_lock as l (task_id, token_id, node_patterns, reason, created_by, expires_at)
select i.task_id, i.token_id, p.node_patterns, i.reason, $6::text,
       clock_timestamp() + $7::float8 * interval '1 day'
from serial, unnest($1::text[], $2::integer[], $4::integer[], $5::text[]) with ordinality i (task_id, token_id, which, reason, place)
join lateral (select t.pattern::jsonb, t.place from unnest($3::text[]) with ordinality t (pattern, place) offset 0)
     p (node_patterns, which) using (which)
order by i.place
on conflict (task_id) do update set
    token_id = excluded.token_id, node_patterns = excluded.node_patterns, reason = excluded.reason,
    created_by = excluded.created_by, expires_at = excluded.expires_at
where (l.token_id, l.node_patterns, l.reason, l.created_by) is distinct from
      (excluded.token_id, excluded.node_patterns, excluded.reason, excluded.created_by)
   or l.expires_at is distinct from excluded.expires_at
