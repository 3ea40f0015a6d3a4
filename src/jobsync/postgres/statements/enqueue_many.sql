-- Store jobs of any sort, in order; one row each with its id. $4: instants, or $5: delays in seconds. $10: their traces, or null.
select e.id
from sync_job_enqueue(
    $1::integer[], $2::integer[], $3::integer[],
    array(select coalesce(w.run_at, clock_timestamp() + w.delay_sec * interval '1 s')
          from unnest($4::timestamptz[], $5::double precision[]) with ordinality w(run_at, delay_sec, place) order by w.place),
    $6::text[], $7::text[], $8::text[], $9::jsonb[], null, $10::text[]) e
order by e.place
