-- Take back what lost its lease: the worker's node is fenced or gone, or the lease ran out. A crash is tried again at once,
-- until it is the last attempt or as many crashes as the lease allows; then the job is failed, with the evidence. What was
-- fetched ahead may not have begun: it is never failed by this, and from then on taken singly. The count of jobs; a hundred
-- leases at once at most, so it is called again until it gives 0.
create or replace function sync_job_recover(_now timestamptz default null) returns integer
language plpgsql as $$
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _count integer := 0;
    _all bigint[];
    _again bigint[];
    _attempts smallint[];
    _crashes smallint[];
    _why text;
    lost sync_job_lease;
begin
    for lost in
        select * from sync_job_lease l
        where l.locked_until <= _at
           or not exists (select from sync_node n where n.incarnation = l.incarnation and n.state <> 'fenced')
        order by l.epoch
        limit 100
        for update skip locked
    loop
        _why := case when lost.locked_until <= _at
                     then format('the lease of worker %s ran out at %s', lost.worker, lost.locked_until)
                     else format('worker %s died, or lost its database, at about %s', lost.worker, _at) end;
        select array_agg(u.id) into _all
        from unnest(lost.ids) u(id)
        where u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id);
        insert into sync_job_error (id, attempt, epoch, worker, at, crashed, error)
        select u.id, u.attempts, lost.epoch, lost.worker, _at, true,
               format('%s (crash %s%s, attempt %s)', _why, u.crashes + 1, ' of at most ' || lost.max_crashes, u.attempts)
        from unnest(lost.ids, lost.attempts, lost.crashes) u(id, attempts, crashes)
        where u.id = any (_all);
        insert into sync_job_end (id, epoch, started_at, finished_at, attempts, crashes, status)
        select u.id, lost.epoch, lost.taken_at, _at, u.attempts, u.crashes + 1, 'failed'
        from unnest(lost.ids, lost.attempts, lost.crashes) u(id, attempts, crashes)
        join sync_job_body b on b.id = u.id
        where lost.max_crashes is not null and u.id = any (_all)
          and (u.crashes + 1 >= lost.max_crashes or u.attempts >= b.max_attempts);
        select array_agg(u.id), array_agg(u.attempts), array_agg(u.crashes + 1)
        into _again, _attempts, _crashes
        from unnest(lost.ids, lost.attempts, lost.crashes) u(id, attempts, crashes)
        where u.id = any (_all) and not exists (select from sync_job_end e where e.id = u.id);
        delete from sync_job_lease l where l.epoch = lost.epoch;
        insert into sync_job_past_lease (epoch, worker, taken_at, over_by)
        values (lost.epoch, lost.worker, lost.taken_at, greatest(lost.locked_until, _at));
        if _again is not null then
            perform sync_job_wait(_again, _attempts, _crashes, null, _at);
            perform sync_job_leave_places(_again, true);
        end if;
        if _all is not null then
            perform sync_job_leave_places(
                array(select a.id from unnest(_all) a(id) where a.id <> all (coalesce(_again, '{}'))), false);
            _count := _count + cardinality(_all);
        end if;
    end loop;
    if _count > 0 then
        perform pg_notify('sync_job', '');
    end if;
    -- Who died is no worker any more.
    delete from sync_job_worker w
    where w.ctid = any (array(
        select d.ctid from sync_job_worker d
        where not exists (select from sync_node n where n.incarnation = d.incarnation and n.state <> 'fenced')
        for update skip locked));
    return _count;
end $$;
