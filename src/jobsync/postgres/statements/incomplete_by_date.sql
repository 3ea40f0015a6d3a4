-- Tasks of a date, claimed by an incarnation that is gone (dead, left, or restarted under its name) and never audited.
-- The incarnations that have claims are found by leaps through their index: one step each, however many claims they have.
with recursive known (incarnation) as (
    select min(c.incarnation) from sync_claim_by_date c where c.date = $1::date
    union all
    select (select min(c.incarnation) from sync_claim_by_date c where c.incarnation > k.incarnation and c.date = $1::date) from known k
    where k.incarnation is not null
), gone as (
    select k.incarnation from known k
    where k.incarnation is not null
      and not exists (select from sync_node n where n.incarnation = k.incarnation and n.state <> 'fenced')
)
select c.item
from gone g
cross join lateral (select c.item, c.created_on from sync_claim_by_date c
                    where c.incarnation = g.incarnation and c.date = $1::date offset 0) c
where c.created_on < clock_timestamp() - $2::float8 * interval '1 second'
  and not exists (select from sync_audit_by_date a where a.item = c.item and a.date = $1::date offset 0)
order by c.created_on, c.item
