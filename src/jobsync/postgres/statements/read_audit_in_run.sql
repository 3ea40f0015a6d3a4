select a.node, a.item, a.date
from sync_audit_in_run a
where a.run = $1::text
order by a.created_on, a.item
