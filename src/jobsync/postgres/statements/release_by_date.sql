-- Let go of tasks that were claimed for a date and not done: one probe each, however large the day is.
delete from sync_claim_by_date c
where c.date = $3::date and c.node = $1::text and c.incarnation = $2::bigint and c.ctid = any (array(
    select l.ctid from unnest($4::text[]) i (item)
    cross join lateral (select o.ctid from sync_claim_by_date o where o.item = i.item and o.date = $3::date offset 0) l
    where not exists (select from sync_audit_by_date a where a.item = i.item and a.date = $3::date offset 0)))
