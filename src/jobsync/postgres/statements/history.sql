-- The latest distributions that moved something, newest first, or the one of a number ($2).
-- settled_ms: from the plan until every token that it gave to somebody was granted, to him or to whom a later plan named instead;
-- null where some of them have not arrived, or never left. uncovered_ms: the longest that any of them was without an owner; null
-- where each had none before. The right to lead (token -1) is none of the tokens that are counted.
select b.id, b.triggered_at, b.trigger_reason, b.leader_node, b.nodes_before, b.nodes_after, b.tokens_moved, b.duration_ms,
       b.plan_version, b.moves::text,
       (select case when bool_and(arrived.tokens @> given.tokens) then
                   (extract(epoch from max(arrived.last_at) - b.triggered_at) * 1000)::integer end
        from (select (m ->> 'tokens')::int4multirange as tokens
              from jsonb_array_elements(b.moves) m where m ->> 'to' is not null) given
        left join lateral (
            select range_agg(r) as tokens, max(h.granted_at) as last_at
            from sync_handover h, unnest(h.tokens) r
            where h.plan_version = b.plan_version and h.granted_at is not null and h.tokens && given.tokens) arrived on true
       ) as settled_ms,
       sync_uncovered_ms(b.plan_version) as uncovered_ms
from sync_rebalance b
where $2::bigint is null or b.id = $2::bigint
order by b.id desc
limit $1::integer
