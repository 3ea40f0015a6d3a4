-- Let go of tasks that were claimed and not done, so that others may claim them at once.
delete from sync_claim c
where c.node = $1::text and c.incarnation = $2::bigint and c.item = any ($4::text[])
  and ((c.run is null and $5::text is null and c.date = $3::date) or c.run = $5::text)
  and not exists (select from sync_audit a
                  where a.item = c.item and ((a.run is null and c.run is null and a.date = c.date) or a.run = c.run))
