-- Run jobs again that ended, from the first attempt; or at once, those that wait for later. One row for each that will.
-- What runs, or is ready anyway, is left alone.
create or replace function sync_job_retry(_ids bigint[], _now timestamptz default null) returns setof bigint
language plpgsql as $$
declare
    _ended bigint[];
    _later bigint[];
    _attempts smallint[];
    _crashes smallint[];
begin
    with gone as (delete from sync_job_end e where e.id = any (_ids) returning e.id)
    select array_agg(g.id) into _ended from gone g;
    if _ended is not null then
        -- A batch under way may still list what ended in it.
        update sync_job_lease l
        set ids = (select array_agg(case when u.id = any (_ended) then 0 else u.id end order by u.place)
                   from unnest(l.ids) with ordinality u(id, place))
        where l.ids && _ended;
        delete from sync_job_progress p where p.id = any (_ended);
        perform sync_job_wait(_ended, array_fill(0::smallint, array[cardinality(_ended)]),
                              array_fill(0::smallint, array[cardinality(_ended)]), null, _now);
    end if;
    with gone as (delete from sync_job_later t where t.id = any (_ids) returning t.id, t.attempts, t.crashes)
    select array_agg(g.id), array_agg(g.attempts), array_agg(g.crashes) into _later, _attempts, _crashes from gone g;
    if _later is not null then
        perform sync_job_wait(_later, _attempts, _crashes, null, _now);
    end if;
    perform pg_notify('sync_job', '');
    return query select unnest(coalesce(_ended, '{}') || coalesce(_later, '{}'));
end $$;
