select l.token_id, l.task_id, l.node_patterns::text, l.reason, l.created_by, l.created_at, l.expires_at
from sync_lock l
where l.expires_at is null or l.expires_at > clock_timestamp()
order by l.created_at, l.id
