-- Extend the leases of a worker: all of them in one statement. The rows are the leases that stand, with their lists;
-- what is not there any more, or is 0 in a list, was lost or taken back.
create or replace function sync_job_extend(_worker text, _incarnation bigint, _epochs bigint[], _lease_ms integer,
                                           _now timestamptz default null)
returns table (epoch bigint, ids bigint[])
language sql as $$
    with mine as (
        select l.epoch from sync_job_lease l
        where l.epoch = any (_epochs) and l.worker = _worker and l.incarnation = _incarnation
        order by l.epoch for update)
    update sync_job_lease l set locked_until = coalesce(_now, clock_timestamp()) + _lease_ms * interval '1 ms'
    from mine where l.epoch = mine.epoch
    returning l.epoch, l.ids
$$;
