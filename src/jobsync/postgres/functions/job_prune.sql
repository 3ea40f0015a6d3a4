-- Delete jobs that ended longer ago than _days, at most _most; the count. Called until it gives less than _most. Null days:
-- nothing is. It waits for nobody: what is being run again this instant is passed over.
create or replace function sync_job_prune(_days double precision, _most integer, _now timestamptz default null) returns integer
language plpgsql as $$
declare
    _gone bigint[];
    _until timestamptz := coalesce(_now, clock_timestamp()) - _days * interval '1 day';
begin
    -- No row goes before the jobs that it tells of: they ended no later. A job may have had several attempts, each in a batch
    -- of its own.
    delete from sync_job_past_lease p
    where p.ctid = any (array(
        select o.ctid from sync_job_past_lease o where o.over_by < _until limit 10 * _most for update skip locked));
    with gone as (
        delete from sync_job_end e
        where e.ctid = any (array(
            select o.ctid from sync_job_end o
            where o.finished_at < _until
              -- A batch under way lists it still: only the end says that it is over.
              and not exists (select from sync_job_lease l where l.epoch = o.epoch)
            limit _most for update skip locked))
        returning e.id)
    select array_agg(g.id) into _gone from gone g;
    if _gone is null then
        return 0;
    end if;
    delete from sync_job_body b where b.id = any (_gone);
    delete from sync_job_error e where e.id = any (_gone);
    delete from sync_job_progress p where p.id = any (_gone);
    return cardinality(_gone);
end $$;
