-- Claim tasks within a run: each goes to one incarnation. A claim whose incarnation is no longer in the fleet and that
-- was never audited may be taken over. Gives the items that are this caller's now.
insert into sync_claim as c (node, item, date, run, incarnation)
select $1::text, i.item, $3::date, $6::text, $2::bigint
from unnest($4::text[], $5::integer[]) i (item, token)
where exists (select from sync_grant g where g.node = $1::text and g.incarnation = $2::bigint and g.tokens @> i.token)
  and not exists (select from sync_audit a where a.run = $6::text and a.item = i.item)
order by i.item  -- two who write the same items in different orders would deadlock
on conflict (run, item) where run is not null
do update set node = excluded.node, incarnation = excluded.incarnation, created_on = clock_timestamp()
where c.incarnation = excluded.incarnation
   or sync_claim_is_free(c.run, c.item, c.incarnation)
returning c.item
