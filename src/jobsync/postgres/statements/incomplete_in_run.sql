-- Tasks of a run, claimed by an incarnation that is gone (dead, left, or restarted under its name) and never audited.
-- The incarnations that have claims are found by leaps through their index: one step each, however many claims they have.
with recursive known (incarnation) as (
    select min(c.incarnation) from sync_claim_in_run c
    union all
    select (select min(c.incarnation) from sync_claim_in_run c where c.incarnation > k.incarnation) from known k
    where k.incarnation is not null
), gone as (
    select k.incarnation from known k
    where k.incarnation is not null
      and not exists (select from sync_node n where n.incarnation = k.incarnation and n.state <> 'fenced')
)
select c.item
from gone g
cross join lateral (select c.item, c.created_on from sync_claim_in_run c
                    where c.incarnation = g.incarnation and c.run = $1::text offset 0) c
where c.created_on < clock_timestamp() - $2::float8 * interval '1 second'
  and not exists (select from sync_audit_in_run a where a.run = $1::text and a.item = c.item offset 0)
order by c.created_on, c.item
