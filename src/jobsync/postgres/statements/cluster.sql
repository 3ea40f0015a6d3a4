select m.total_tokens, m.hash_function, m.plan_version, m.schema_version, m.quarantined,
       (select coalesce(sum(upper(r) - lower(r)), 0)::integer from sync_grant g, unnest(g.tokens - '{[-1,0)}') r) as tokens_held,
       (select count(*)::integer from sync_lock) as locks
from sync_meta m
