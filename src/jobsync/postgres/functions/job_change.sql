-- What people do to sync_job by hand:
--   INSERT            enqueues: kind and payload, and what else is given of queue, priority, run_at, max_attempts, job_id,
--                     affinity, limit_key
--   UPDATE of status  to pending or retry: an ended or delayed job runs again; a running one is taken back, uncharged
--                     to cancelled: as sync_job_cancel; to failed: it waits or runs no more
--   UPDATE of         priority, run_at, max_attempts, payload, of a job that waits
--   DELETE            forgets a job that does not run
-- Anything else is refused, so that nothing seems to be changed and is not. A job that was taken, or ended, since the
-- statement looked is passed over, and not counted: as PostgreSQL passes over a row that fits the condition no more.
create or replace function sync_job_change() returns trigger
language plpgsql as $$
declare
    _attempts smallint;
    _crashes smallint;
begin
    if tg_op = 'INSERT' then
        if new.kind is null or new.payload is null then
            raise exception 'a job needs a kind and a payload' using errcode = '23502';
        end if;
        if coalesce(new.status, 'pending') <> 'pending' or new.locked_by is not null or new.result is not null
           or coalesce(new.attempts, 0) <> 0 or coalesce(new.progress, 0) <> 0 then
            raise exception 'a job begins as pending, with no attempt, worker, progress or result' using errcode = '0A000';
        end if;
        select e.id into new.id
        from sync_job_enqueue(array[sync_job_lane_of(coalesce(new.queue, 'default'), new.kind)], array[coalesce(new.priority, 0)],
                              array[coalesce(new.max_attempts, 3)], array[new.run_at], array[new.job_id], array[new.affinity],
                              array[new.limit_key], array[new.payload], null, null) e;
        return new;
    end if;
    if tg_op = 'DELETE' then
        if old.status = 'processing' then
            raise exception 'job % is running: cancel it first', old.id using errcode = '55006';
        end if;
        if sync_job_forget(old.id) then
            return old;
        end if;
        return null;
    end if;
    if (new.id, new.queue, new.kind, new.job_id, new.affinity, new.limit_key, new.created_at, new.attempts, new.crashes, new.attempt,
        new.result, new.progress, new.progress_message)
       is distinct from (old.id, old.queue, old.kind, old.job_id, old.affinity, old.limit_key, old.created_at, old.attempts, old.crashes,
        old.attempt, old.result, old.progress, old.progress_message)
       -- With a new status these follow by themselves, whatever a statement says.
       or new.status = old.status and (new.locked_by, new.locked_until, new.last_error, new.updated_at, new.finished_at)
          is distinct from (old.locked_by, old.locked_until, old.last_error, old.updated_at, old.finished_at) then
        raise exception 'of a job, only status, priority, run_at, max_attempts and payload can be changed by hand'
            using errcode = '0A000';
    end if;
    if new.status <> old.status and not sync_job_change_status(old.id, old.status, new.status, new.last_error) then
        return null;
    end if;
    if (new.priority, new.max_attempts, new.payload, new.run_at)
       is distinct from (old.priority, old.max_attempts, old.payload, old.run_at) then
        if new.status not in ('pending', 'retry') then
            raise exception 'job % does not wait (it is %): only what waits can be changed', old.id, new.status using errcode = '55006';
        end if;
        select w.attempts, w.crashes into _attempts, _crashes from sync_job_leave_waiting(array[old.id]) w;
        if not found then
            if new.status <> old.status then
                raise exception 'job % was taken this instant: look again', old.id using errcode = '55006';
            end if;
            return null;
        end if;
        perform sync_job_check_attempts(new.max_attempts);
        update sync_job_body b set priority = new.priority, max_attempts = new.max_attempts, payload = new.payload where b.id = old.id;
        perform sync_job_wait(array[old.id], array[_attempts], array[_crashes], new.run_at);
        perform pg_notify('sync_job', '');
    end if;
    return new;
end $$;

create or replace trigger sync_job_changed instead of insert or update or delete on sync_job
for each row execute function sync_job_change();
