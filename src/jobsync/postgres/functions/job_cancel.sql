-- Cancel jobs that wait or run; one row for each that was. A running one is fenced: its worker learns it at once by a
-- notification, else when it extends the lease, and its late result is refused.
create or replace function sync_job_cancel(_ids bigint[], _now timestamptz default null) returns setof bigint
language plpgsql as $$
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _ended bigint[];
    _running bigint[];
begin
    with gone as (select * from sync_job_leave_waiting(_ids)),
    ended as (
        insert into sync_job_end (id, finished_at, attempts, crashes, status)
        select g.id, _at, g.attempts, g.crashes, 'cancelled' from gone g
        returning id)
    select array_agg(e.id) into _ended from ended e;
    perform from sync_job_lease l where l.ids && _ids order by l.epoch for update;
    with ended as (
        insert into sync_job_end (id, epoch, started_at, finished_at, attempts, crashes, status)
        select u.id, l.epoch, l.taken_at, _at, u.attempts, u.crashes, 'cancelled'
        from sync_job_lease l
        cross join lateral unnest(l.ids, l.attempts, l.crashes) u(id, attempts, crashes)
        where u.id = any (_ids) and u.id <> 0
        on conflict (id) do nothing
        returning id)
    select array_agg(e.id) into _running from ended e;
    perform sync_job_leave_places(coalesce(_ended, '{}') || coalesce(_running, '{}'), false);
    if _running is not null then
        perform pg_notify('sync_job', 'cancelled');
    end if;
    return query select unnest(coalesce(_ended, '{}') || coalesce(_running, '{}'));
end $$;
