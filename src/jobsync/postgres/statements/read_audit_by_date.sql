select a.node, a.item, a.date
from sync_audit_by_date a
where a.date = $1::date
order by a.created_on, a.item
