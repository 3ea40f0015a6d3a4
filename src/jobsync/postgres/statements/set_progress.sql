-- Say how far a running job has come, by its attempt's number; false, or no row: it does not run so.
select sync_job_set_progress($1::bigint, p.place, $2::bigint, $3::integer, $4::text)
from sync_job_place_in_lease($1::bigint, $2::bigint) p
