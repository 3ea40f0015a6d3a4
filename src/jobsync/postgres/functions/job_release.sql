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
begin
    perform from sync_job_lease l where l.epoch = any (_epochs) order by l.epoch for update;
    select array_agg(g.id), array_agg(g.attempts), array_agg(g.crashes) into _back, _attempts, _crashes
    from (select distinct r.id, l.attempts[r.place] - 1 as attempts, l.crashes[r.place] as crashes
          from unnest(_epochs, _places, _ids) r(epoch, place, id)
          join sync_job_lease l on l.epoch = r.epoch and l.ids[r.place] = r.id
          where r.id <> 0 and not exists (select from sync_job_end e where e.id = r.id)) g;
    if _back is null then
        return 0;
    end if;
    perform sync_job_strike_out(_epochs, _back);
    perform sync_job_close_leases(_epochs);
    perform sync_job_wait(_back, _attempts, _crashes, null, _at);
    -- Who has never begun stands in its line by its number alone, as before it was taken.
    perform sync_job_leave_places(array(select b.id from unnest(_back, _attempts) b(id, attempts) where b.attempts > 0), true);
    perform sync_job_leave_places(array(select b.id from unnest(_back, _attempts) b(id, attempts) where b.attempts = 0), false);
    perform pg_notify('sync_job', '');
    return cardinality(_back);
end $$;
