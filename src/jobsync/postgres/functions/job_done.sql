-- Record that jobs are done, each under the epoch of its attempt and at its place in the lease's list. The rows name those
-- that are refused: their lease was lost, or they ended otherwise. Leases in _over have nothing left to do, and go.
create or replace function sync_job_done(_epochs bigint[], _places integer[], _ids bigint[], _results jsonb[], _over bigint[],
                                         _now timestamptz default null)
returns table (refused bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _written bigint;
begin
    -- The lock settles who is first: this, or the sweep that gives the lease's jobs to others.
    perform from sync_job_lease l where l.epoch = any (_epochs || _over) order by l.epoch for update;
    insert into sync_job_end (id, epoch, started_at, finished_at, attempts, crashes, status, result)
    select d.id, d.epoch, l.taken_at, _at, l.attempts[d.place], l.crashes[d.place], 'done', d.result
    from unnest(_epochs, _places, _ids, _results) d(epoch, place, id, result)
    join sync_job_lease l on l.epoch = d.epoch
    where l.ids[d.place] = d.id
    on conflict (id) do nothing;
    get diagnostics _written = row_count;
    if exists (select from sync_job_place) then
        -- Of the accepted alone: a refused one may run elsewhere, in the place that it has there.
        perform sync_job_leave_places(array(
            select d.id from unnest(_epochs, _ids) d(epoch, id)
            join sync_job_end e on e.id = d.id and e.epoch = d.epoch and e.status = 'done'), false);
    end if;
    if cardinality(_over) > 0 then
        perform sync_job_close_leases(_over);
    end if;
    if _written < cardinality(_ids) then
        return query
            select d.id from unnest(_epochs, _ids) d(epoch, id)
            where not exists (select from sync_job_end e where e.id = d.id and e.epoch = d.epoch and e.status = 'done');
    end if;
end $$;
