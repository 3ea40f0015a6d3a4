-- Which of these tasks somebody has done within a run: one probe each, however large the run is.
select i.item from unnest($2::text[]) i (item)
where exists (select from sync_audit_in_run a where a.run = $1::text and a.item = i.item offset 0)
