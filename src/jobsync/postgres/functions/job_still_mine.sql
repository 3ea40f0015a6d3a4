-- Of these attempts, those that are still to be worked on.
create or replace function sync_job_still_mine(_epochs bigint[], _places integer[], _ids bigint[]) returns setof bigint
language sql stable as $$
    select m.id
    from unnest(_epochs, _places, _ids) m(epoch, place, id)
    join sync_job_lease l on l.epoch = m.epoch and l.ids[m.place] = m.id
    where not exists (select from sync_job_end e where e.id = m.id)
$$;
