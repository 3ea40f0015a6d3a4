select b.id, b.triggered_at, b.trigger_reason, b.leader_node, b.nodes_before, b.nodes_after, b.tokens_moved, b.duration_ms
from sync_rebalance b
order by b.id desc
limit $1::integer
