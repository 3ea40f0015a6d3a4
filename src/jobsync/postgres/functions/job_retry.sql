-- Run jobs again that ended, from the first attempt; or at once, those that wait for later. One row for each that will.
-- What runs, or is ready anyway, is left alone; so is what ends in this very instant.
create or replace function sync_job_retry(_ids bigint[], _now timestamptz default null) returns setof bigint
language plpgsql as $$
declare
    _epochs bigint[];
    _again bigint[];
    _attempts smallint[];
    _crashes smallint[];
    _some boolean := false;
begin
    -- A batch under way may still list what ended in it: by the lease's lock, who says `done` once more comes before or after.
    select array_agg(l.epoch) into _epochs
    from (select s.epoch from sync_job_lease s
          where s.epoch in (select e.epoch from sync_job_end e where e.id = any (_ids))
          order by s.epoch for update) l;
    perform from sync_job_later t where t.id = any (_ids) order by t.id for update;
    with gone as (delete from sync_job_later t where t.id = any (_ids) returning t.id, t.attempts, t.crashes)
    select array_agg(g.id), array_agg(g.attempts), array_agg(g.crashes) into _again, _attempts, _crashes from gone g;
    if _again is not null then
        _some := true;
        perform sync_job_wait(_again, _attempts, _crashes, null, _now);
        return query select unnest(_again);
    end if;
    perform from sync_job_end e where e.id = any (_ids) order by e.id for update;
    with gone as (
        delete from sync_job_end e
        where e.id = any (_ids)
          and (e.epoch = any (_epochs) or not exists (select from sync_job_lease l where l.epoch = e.epoch))
        returning e.id)
    select array_agg(g.id) into _again from gone g;
    if _again is not null then
        _some := true;
        perform sync_job_strike_out(_epochs, _again);
        delete from sync_job_progress p where p.id = any (_again);
        perform sync_job_wait(_again, array_fill(0::smallint, array[cardinality(_again)]),
                              array_fill(0::smallint, array[cardinality(_again)]), null, _now);
        return query select unnest(_again);
    end if;
    if _some then
        perform pg_notify('sync_job', '');
    end if;
end $$;
