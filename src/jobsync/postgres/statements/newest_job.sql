-- The highest id that stands, 0 where there is none.
select coalesce(max(b.id), 0) from sync_job_body b
