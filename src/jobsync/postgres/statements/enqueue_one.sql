-- Store one job of any sort. $5: an instant, or $6: a delay in seconds. $11: its trace. No row: the kind is new in this queue, and has no lane.
select e.id
from sync_job_lane l
cross join lateral sync_job_enqueue(
    array[l.lane], array[$3::integer], array[$4::integer],
    array[coalesce($5::timestamptz, clock_timestamp() + $6::double precision * interval '1 s')],
    array[$7::text], array[$8::text], array[$9::text], array[$10::jsonb], null, array[$11::text]) e
where l.queue = $1::text and l.kind = $2::text
