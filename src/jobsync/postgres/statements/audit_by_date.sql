-- Record that tasks are done for a date. A task that is recorded already stays as it is.
insert into sync_audit (node, item, date)
select $1::text, i.item, $2::date
from unnest($3::text[]) i (item)
order by i.item  -- two who write the same items in different orders would deadlock
on conflict (date, item) where run is null do nothing
