-- Let go of tasks that were claimed in a run and not done, so that others may claim them at once: one probe each.
delete from sync_claim_in_run c
where c.run = $3::text and c.node = $1::text and c.incarnation = $2::bigint and c.ctid = any (array(
    select l.ctid from unnest($4::text[]) i (item)
    cross join lateral (select o.ctid from sync_claim_in_run o where o.run = $3::text and o.item = i.item offset 0) l
    where not exists (select from sync_audit_in_run a where a.run = $3::text and a.item = i.item offset 0)))
