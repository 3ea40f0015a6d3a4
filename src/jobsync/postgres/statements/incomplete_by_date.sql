-- Tasks of a date, claimed by an incarnation that is gone (dead, left, or restarted under its name) and never audited.
-- Reads the date's claims once. An index that finds the claims of the gone alone would cost every claim a fifth of its price.
with left_behind as materialized (
    select c.item, c.created_on
    from sync_claim_by_date c
    where c.date = $1::date
      and c.created_on < clock_timestamp() - $2::float8 * interval '1 second'
      and not exists (select from sync_node n where n.incarnation = c.incarnation and n.state <> 'fenced')
)
select l.item
from left_behind l
where not exists (select from sync_audit_by_date a where a.item = l.item and a.date = $1::date offset 0)
order by l.created_on, l.item
