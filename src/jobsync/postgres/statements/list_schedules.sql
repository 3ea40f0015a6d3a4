-- The periodic jobs, for people.
select p.name, p.schedule, p.timezone, p.queue, p.kind, p.payload::text, p.priority, p.last_due, p.last_id
from sync_job_periodic p
order by p.name
