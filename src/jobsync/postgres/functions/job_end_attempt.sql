-- End one attempt in another way than `done`, or keep its result apart from a batch. True if it was this attempt's to end.
--   retry      failed, and waits until _run_at       failed     for good
--   pending    given back: the attempt is not charged cancelled  for good
--   done       with its result
-- An affinity's place is kept by a job that will be tried again: those behind it wait.
create or replace function sync_job_end_attempt(_epoch bigint, _place integer, _id bigint, _outcome text, _run_at timestamptz,
                                                _error text, _result jsonb, _now timestamptz default null)
returns boolean
language plpgsql as $$
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    lease sync_job_lease;
begin
    if _outcome not in ('retry', 'failed', 'pending', 'cancelled', 'done') then
        raise exception 'a job ends as retry, failed, pending, cancelled or done, not as %', coalesce(_outcome, 'null');
    end if;
    select * into lease from sync_job_lease l where l.epoch = _epoch for update;
    if not found or lease.ids[_place] is distinct from _id or _id = 0
       or exists (select from sync_job_end e where e.id = _id) then
        return false;
    end if;
    if _error is not null then
        insert into sync_job_error (id, attempt, epoch, worker, at, crashed, error)
        values (_id, lease.attempts[_place], _epoch, lease.worker, _at, false, _error);
    end if;
    if _outcome in ('retry', 'pending') then
        update sync_job_lease l set ids[_place] = 0 where l.epoch = _epoch;
        perform sync_job_wait(array[_id],
                              array[lease.attempts[_place] - (_outcome = 'pending')::integer]::smallint[],
                              array[lease.crashes[_place]], _run_at, _at);
    else
        insert into sync_job_end (id, epoch, started_at, finished_at, attempts, crashes, status, result)
        values (_id, _epoch, lease.taken_at, _at, lease.attempts[_place], lease.crashes[_place], _outcome, _result);
    end if;
    -- Given back before it ever failed, it stands in its line by its number alone, as before it was taken.
    perform sync_job_leave_places(
        array[_id], _outcome = 'retry' or _outcome = 'pending' and lease.attempts[_place] > 1);
    perform sync_job_close_leases(array[_epoch]);
    if _outcome in ('retry', 'pending') then
        perform pg_notify('sync_job', '');
    end if;
    return true;
end $$;
