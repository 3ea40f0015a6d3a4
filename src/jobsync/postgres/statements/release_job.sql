-- End a running attempt of this worker by hand; false, or no row: it does not run so. A retry beyond the last attempt fails.
select sync_job_end_attempt(
    l.epoch, p.place, $2::bigint,
    case when $4::text = 'retry' and l.attempts[p.place] >= b.max_attempts then 'failed' else $4::text end,
    null, $5::text, $6::jsonb)
from sync_job_place_in_lease($1::bigint, $2::bigint) p
join sync_job_lease l on l.epoch = $1::bigint
join sync_job_body b on b.id = $2::bigint
where p.worker = $3::text
