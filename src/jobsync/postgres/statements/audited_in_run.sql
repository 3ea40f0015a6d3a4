-- Which of these tasks somebody has done within a run.
select a.item from sync_audit_in_run a where a.run = $1::text and a.item = any ($2::text[])
