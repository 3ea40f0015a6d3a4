-- Give back what a worker was given and does not know of: a take whose answer was lost with its connection. _known are the
-- epochs that it does know. The count of jobs.
create or replace function sync_job_release_unknown(_worker text, _incarnation bigint, _known bigint[]) returns integer
language plpgsql as $$
declare
    _epochs bigint[];
    _places integer[];
    _ids bigint[];
begin
    select array_agg(l.epoch), array_agg(u.place::integer), array_agg(u.id) into _epochs, _places, _ids
    from sync_job_lease l cross join lateral unnest(l.ids) with ordinality u(id, place)
    where l.worker = _worker and l.incarnation = _incarnation and l.epoch <> all (_known) and u.id <> 0;
    if _epochs is null then
        return 0;
    end if;
    return sync_job_release(_epochs, _places, _ids);
end $$;
