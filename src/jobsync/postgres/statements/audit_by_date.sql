-- Record that tasks are done for a date. A task that is recorded already stays as it is.
insert into sync_audit_by_date (node, item, date)
select $1::text, i.item, $2::date
from unnest($3::text[]) i (item)
order by i.item collate "C"  -- two who write the same items in different orders would deadlock
on conflict (item, date) do nothing
