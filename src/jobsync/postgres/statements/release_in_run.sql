-- Let go of tasks that were claimed in a run and not done, so that others may claim them at once.
delete from sync_claim_in_run c
where c.run = $3::text and c.item = any ($4::text[]) and c.node = $1::text and c.incarnation = $2::bigint
  and not exists (select from sync_audit_in_run a where a.run = $3::text and a.item = c.item)
