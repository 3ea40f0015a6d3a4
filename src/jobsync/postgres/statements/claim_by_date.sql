-- Record what this node works on, without a run: the newest claim of a task for a date stands. Tokens that the node
-- does not hold are passed over: its grants are put together once a statement, not looked through once a row.
insert into sync_claim_by_date as c (node, item, date, incarnation)
select $1::text, i.item, $3::date, $2::bigint
from unnest($4::text[], $5::integer[]) i (item, token)
where (select range_agg(r) from sync_grant g, unnest(g.tokens) r
       where g.node = $1::text and g.incarnation = $2::bigint) @> i.token
order by i.item collate "C"  -- two who write the same items in different orders would deadlock
on conflict (item, date)
do update set node = excluded.node, incarnation = excluded.incarnation, created_on = clock_timestamp()
returning c.item
