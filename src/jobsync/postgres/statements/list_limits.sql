-- The kinds that have a limit.
select m.kind, m.at_once, m.per_key from sync_job_limit m order by m.kind
