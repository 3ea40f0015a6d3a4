select a.node, a.item, a.date
from sync_audit a
where ((a.run is null and $2::text is null and a.date = $1::date) or a.run = $2::text)
order by a.created_on, a.item
