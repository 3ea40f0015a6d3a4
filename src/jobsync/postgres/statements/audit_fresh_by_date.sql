-- Record that tasks are done for a date of which none is recorded yet, without looking for a conflict on each: half the
-- work. A few of them ($4) stand for all: if one of those is recorded, nothing is written. A conflict with any other is an
-- error (unique_violation), and nothing is written either. Gives how many were written.
with written as (
    insert into sync_audit_by_date (node, item, date)
    select $1::text, i.item, $2::date
    from unnest($3::text[]) i (item)
    where (select count(*) from unnest($4::text[]) few (item)
           where exists (select from sync_audit_by_date a where a.item = few.item and a.date = $2::date offset 0)) = 0
    order by i.item collate "C"
    returning 1
)
select count(*)::integer from written
