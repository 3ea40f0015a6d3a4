-- Give back jobs that were fetched ahead and not begun: no attempt is charged, and others may take them at once. The count
-- of those that were this lease's to give.
create or replace function sync_job_release(_epochs bigint[], _places integer[], _ids bigint[], _now timestamptz default null)
returns integer
language plpgsql as $$
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _back bigint[];
    _attempts smallint[];
    _crashes smallint[];
    _each record;
begin
    perform from sync_job_lease l where l.epoch = any (_epochs) order by l.epoch for update;
    select array_agg(r.id), array_agg(l.attempts[r.place] - 1), array_agg(l.crashes[r.place])
    into _back, _attempts, _crashes
    from unnest(_epochs, _places, _ids) r(epoch, place, id)
    join sync_job_lease l on l.epoch = r.epoch and l.ids[r.place] = r.id
    where not exists (select from sync_job_end e where e.id = r.id);
    if _back is null then
        return 0;
    end if;
    update sync_job_lease l
    set ids = (select array_agg(case when u.id = any (_back) then 0 else u.id end order by u.place)
               from unnest(l.ids) with ordinality u(id, place))
    where l.epoch = any (_epochs);
    perform sync_job_wait(_back, _attempts, _crashes, null, _at);
    perform sync_job_leave_places(_back, true);
    perform pg_notify('sync_job', '');
    return cardinality(_back);
end $$;
