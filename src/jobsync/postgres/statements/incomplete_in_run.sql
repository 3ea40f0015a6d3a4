-- Tasks of a run, claimed by an incarnation that is gone (dead, left, or restarted under its name) and never audited.
-- Reads the run's claims once. An index that finds the claims of the gone alone would cost every claim a fifth of its price.
with left_behind as materialized (
    select c.item, c.created_on
    from sync_claim_in_run c
    where c.run = $1::text
      and c.created_on < clock_timestamp() - $2::float8 * interval '1 second'
      and not exists (select from sync_node n where n.incarnation = c.incarnation and n.state <> 'fenced')
)
select l.item
from left_behind l
where not exists (select from sync_audit_in_run a where a.run = $1::text and a.item = l.item offset 0)
order by l.created_on, l.item
