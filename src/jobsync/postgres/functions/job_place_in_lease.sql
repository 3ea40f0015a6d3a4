-- Where a running job stands in its lease, for those who know its id and attempt alone. No row: it does not run so.
create or replace function sync_job_place_in_lease(_epoch bigint, _id bigint) returns table (place integer, worker text)
language sql stable as $$
    select array_position(l.ids, _id), l.worker from sync_job_lease l
    where l.epoch = _epoch and l.ids @> array[_id] and not exists (select from sync_job_end e where e.id = _id)
$$;
