-- The distributions that moved one token ($1), newest first.
select b.id, b.triggered_at, b.trigger_reason, m ->> 'from' as source, m ->> 'to' as target
from sync_rebalance b
cross join lateral jsonb_array_elements(b.moves) m
where (m ->> 'tokens')::int4multirange @> $1::integer
order by b.id desc
limit $2::integer
