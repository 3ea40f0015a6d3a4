-- The latest distributions that moved something, newest first, or the one of a number ($2). settled_ms: from the plan until
-- every token that it gave away was granted to its new owner; null where that cannot be told any more, since some of them
-- have moved on, or have not arrived yet.
select b.id, b.triggered_at, b.trigger_reason, b.leader_node, b.nodes_before, b.nodes_after, b.tokens_moved, b.duration_ms,
       b.plan_version, b.moves::text,
       (select case when bool_and(arrived.tokens @> given.tokens) then
                   (extract(epoch from max(arrived.last_at) - b.triggered_at) * 1000)::integer end
        from (select m ->> 'to' as node, (m ->> 'tokens')::int4multirange as tokens
              from jsonb_array_elements(b.moves) m where m ->> 'to' is not null) given
        left join lateral (
            select range_agg(r) as tokens, max(g.assigned_at) as last_at
            from sync_grant g, unnest(g.tokens) r
            where g.node = given.node and g.assigned_at >= b.triggered_at and g.tokens && given.tokens) arrived on true)
from sync_rebalance b
where $2::bigint is null or b.id = $2::bigint
order by b.id desc
limit $1::integer
