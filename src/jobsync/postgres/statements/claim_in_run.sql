-- Claim tasks within a run: each goes to one incarnation. A claim whose incarnation is no longer in the fleet and that
-- was never audited may be taken over. Gives the items that are this caller's now.
-- Every look-up by item is a probe of its own (offset 0 keeps it so): from statistics that lag behind a growing table
-- the planner would read the whole run once a batch, or once a row.
insert into sync_claim_in_run as c (node, item, date, run, incarnation)
select $1::text, i.item, $3::date, $6::text, $2::bigint
from unnest($4::text[], $5::integer[]) i (item, token)
where (select range_agg(r) from sync_grant g, unnest(g.tokens) r
       where g.node = $1::text and g.incarnation = $2::bigint) @> i.token
  and not exists (select from sync_audit_in_run a where a.run = $6::text and a.item = i.item offset 0)
order by i.item collate "C"  -- two who write the same items in different orders would deadlock
on conflict (run, item)
do update set node = excluded.node, incarnation = excluded.incarnation, created_on = clock_timestamp()
where c.incarnation = excluded.incarnation
   or sync_claim_is_free(c.run, c.item, c.incarnation)
returning c.item
