-- Cancel jobs that wait or run; one row for each that was. A running one is fenced: it is struck out of its lease, its
-- worker learns it at once by a notification, else when it extends the lease, and its late result is refused.
create or replace function sync_job_cancel(_ids bigint[], _now timestamptz default null) returns setof bigint
language plpgsql as $$
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _epochs bigint[];
    _ended bigint[];
    _left bigint[] := _ids;
begin
    -- A job that goes from a lease to the waiting, or the other way, between the two looks is in neither: look again.
    for _look in 1 .. 100 loop
        _epochs := sync_job_lock_leases(_left);
        with ended as (
            insert into sync_job_end (id, epoch, started_at, finished_at, attempts, crashes, status)
            select u.id, l.epoch, l.taken_at, _at, u.attempts, u.crashes, 'cancelled'
            from sync_job_lease l
            cross join lateral unnest(l.ids, l.attempts, l.crashes) u(id, attempts, crashes)
            where l.epoch = any (_epochs) and u.id = any (_left)
              and not exists (select from sync_job_end e where e.id = u.id)
            returning id)
        select array_agg(e.id) into _ended from ended e;
        if _ended is not null then
            perform sync_job_strike_out(_epochs, _ended);
            perform sync_job_close_leases(_epochs);
            perform sync_job_leave_places(_ended, false);
            perform pg_notify('sync_job', 'cancelled');
            return query select unnest(_ended);
        end if;
        with ended as (
            insert into sync_job_end (id, finished_at, attempts, crashes, status)
            select g.id, _at, g.attempts, g.crashes, 'cancelled' from sync_job_leave_waiting(_left) g
            returning id)
        select array_agg(e.id) into _ended from ended e;
        if _ended is not null then
            perform sync_job_leave_places(_ended, false);
            -- Who stood behind it in an affinity's line may run now.
            perform pg_notify('sync_job', '');
            return query select unnest(_ended);
        end if;
        _left := array(
            select b.id from sync_job_body b
            where b.id = any (_left) and not exists (select from sync_job_end e where e.id = b.id));
        exit when _left = '{}';
    end loop;
end $$;
