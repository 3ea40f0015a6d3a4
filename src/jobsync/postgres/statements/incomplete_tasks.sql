-- Tasks claimed by an incarnation that is gone (dead, left, or restarted under its name) and never audited.
select c.item
from sync_claim c
where ((c.run is null and $2::text is null and c.date = $1::date) or c.run = $2::text)
  and c.created_on < clock_timestamp() - $3::float8 * interval '1 second'
  and not exists (select from sync_node n where n.incarnation = c.incarnation and n.state <> 'fenced')
  and not exists (select from sync_audit a
                  where a.item = c.item and ((a.run is null and c.run is null and a.date = c.date) or a.run = c.run))
order by c.created_on, c.item
