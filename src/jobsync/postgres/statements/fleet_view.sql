-- All that the live page and the fleet's metrics show of nodes and tokens: one row, in one statement.
-- Tokens go as ranges, so that a million of them cost no more than there are pieces. The right to lead (token -1) is none of the pool.
select clock_timestamp() as read_at, m.total_tokens, m.hash_function, m.plan_version, m.schema_version, m.quarantined,
       (select count(*)::integer from sync_lock l where l.expires_at is null or l.expires_at > clock_timestamp()) as locks,
       (select count(*)::integer from sync_rebalance b where b.triggered_at > clock_timestamp() - interval '1 hour') as rebalances_an_hour,
       (select g.node from sync_grant g where g.tokens @> -1) as leads,
       (select g.assigned_at from sync_grant g where g.tokens @> -1) as leads_since,
       (select json_agg(json_build_array(
                   n.name, n.state, n.state <> 'fenced' and n.last_heartbeat > clock_timestamp() - n.heartbeat_timeout_ms * interval '1 ms',
                   extract(epoch from clock_timestamp() - n.last_heartbeat), n.row_lease_ms, n.session_lease_ms,
                   extract(epoch from n.created_on), n.applied_version, n.host, n.pid, n.environment, n.takes_tokens)
               order by n.created_on, n.name)
        from sync_node n) as nodes,
       (select json_agg(json_build_array(g.node, lower(r), upper(r)) order by lower(r))
        from sync_grant g cross join lateral unnest(g.tokens - '{[-1,0)}') r) as held,
       (select json_agg(json_build_array(t.node, lower(r), upper(r)) order by lower(r))
        from sync_target t cross join lateral unnest(t.tokens - '{[-1,0)}') r) as wanted,
       (select json_agg(json_build_array(b.id, extract(epoch from b.triggered_at), b.trigger_reason, b.leader_node, b.nodes_before,
                                         b.nodes_after, b.tokens_moved, b.duration_ms, sync_uncovered_ms(b.plan_version))
               order by b.id desc)
        from (select * from sync_rebalance order by id desc limit 12) b) as rebalances,
       (select json_agg(json_build_array(s.verb, s.node, s.reason, s.asked_by, extract(epoch from s.asked_at), extract(epoch from s.ends_at))
                        order by s.id)
        from sync_steering s
        where s.ended_at is null and (s.ends_at is null or s.ends_at > clock_timestamp())) as steering
from sync_meta m
