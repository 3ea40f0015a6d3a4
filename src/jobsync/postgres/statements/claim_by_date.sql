-- Record what this node works on, without a run: the newest claim of a task for a date stands. Tokens that the node
-- does not hold are passed over.
insert into sync_claim as c (node, item, date, incarnation)
select $1::text, i.item, $3::date, $2::bigint
from unnest($4::text[], $5::integer[]) i (item, token)
where exists (select from sync_grant g where g.node = $1::text and g.incarnation = $2::bigint and g.tokens @> i.token)
order by i.item  -- two who write the same items in different orders would deadlock
on conflict (date, item) where run is null
do update set node = excluded.node, incarnation = excluded.incarnation, created_on = clock_timestamp()
returning c.item
