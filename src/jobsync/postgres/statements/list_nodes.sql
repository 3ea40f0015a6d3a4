-- Everybody the table knows, oldest first. Active: not fenced, and its heartbeat is younger than its own timeout.
-- The right to lead (token -1) is no token of the pool and is not counted.
select n.name, n.created_on, n.last_heartbeat, n.state,
       n.state <> 'fenced'
       and n.last_heartbeat > clock_timestamp() - n.heartbeat_timeout_ms * interval '1 ms' as active,
       (select coalesce(sum(upper(r) - lower(r)), 0)::integer
        from sync_grant g, unnest(g.tokens - '{[-1,0)}') r where g.node = n.name) as tokens,
       n.applied_version, n.host, n.pid, n.environment, n.takes_tokens, n.heartbeat_timeout_ms
from sync_node n
order by n.created_on, n.name
