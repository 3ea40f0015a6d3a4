-- Let go of tasks that were claimed for a date and not done.
delete from sync_claim_by_date c
where c.item = any ($4::text[]) and c.date = $3::date and c.node = $1::text and c.incarnation = $2::bigint
  and not exists (select from sync_audit_by_date a where a.item = c.item and a.date = $3::date)
