-- The lanes of these queues and kinds; kinds null: every kind.
select n.lane, n.queue, n.kind, (select count(*)::integer from sync_job_lane) as lanes
from sync_job_lane n
where n.queue = any ($1::text[]) and ($2::text[] is null or n.kind = any ($2::text[]))
