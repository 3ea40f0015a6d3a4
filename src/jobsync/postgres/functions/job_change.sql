-- What people do to sync_job by hand:
--   INSERT            enqueues: kind and payload, and what else is given of queue, priority, run_at, max_attempts, job_id,
--                     affinity, limit_key
--   UPDATE of status  to pending or retry: an ended or delayed job runs again; a running one is taken back, uncharged
--                     to cancelled: as sync_job_cancel; to failed: it waits or runs no more
--   UPDATE of         priority, run_at, max_attempts, payload, of a job that waits
--   DELETE            forgets a job that does not run
-- Anything else is refused, so that nothing seems to be changed and is not.
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
        select e.id into new.id
        from sync_job_enqueue(array[sync_job_lane_of(coalesce(new.queue, 'default'), new.kind)], array[coalesce(new.priority, 0)],
                              array[coalesce(new.max_attempts, 3)], array[new.run_at], array[new.job_id], array[new.affinity],
                              array[new.limit_key], array[new.payload]) e;
        return new;
    end if;
    if tg_op = 'DELETE' then
        if old.status = 'processing' then
            raise exception 'job % is running: cancel it first', old.id using errcode = '55006';
        end if;
        perform sync_job_leave_waiting(array[old.id]);
        perform sync_job_leave_places(array[old.id], false);
        delete from sync_job_end e where e.id = old.id;
        delete from sync_job_body b where b.id = old.id;
        delete from sync_job_error e where e.id = old.id;
        delete from sync_job_progress p where p.id = old.id;
        return old;
    end if;
    if (new.id, new.queue, new.kind, new.job_id, new.affinity, new.limit_key, new.created_at, new.attempts, new.crashes, new.attempt,
        new.result, new.progress, new.progress_message)
       is distinct from (old.id, old.queue, old.kind, old.job_id, old.affinity, old.limit_key, old.created_at, old.attempts, old.crashes,
        old.attempt, old.result, old.progress, old.progress_message) then
        raise exception 'of a job, only status, priority, run_at, max_attempts and payload can be changed by hand'
            using errcode = '0A000';
    end if;
    if new.status <> old.status then
        perform sync_job_change_status(old.id, old.status, new.status, new.last_error);
    end if;
    if (new.priority, new.max_attempts, new.payload) is distinct from (old.priority, old.max_attempts, old.payload)
       or new.run_at is distinct from old.run_at then
        if new.status not in ('pending', 'retry') then
            raise exception 'job % does not wait (it is %): only what waits can be changed', old.id, new.status using errcode = '55006';
        end if;
        select w.attempts, w.crashes into _attempts, _crashes from sync_job_leave_waiting(array[old.id]) w;
        if not found then
            raise exception 'job % was taken this instant: look again', old.id using errcode = '55006';
        end if;
        update sync_job_body b set priority = new.priority, max_attempts = new.max_attempts, payload = new.payload where b.id = old.id;
        perform sync_job_wait(array[old.id], array[_attempts], array[_crashes], new.run_at);
        perform pg_notify('sync_job', '');
    end if;
    return new;
end $$;

create or replace trigger sync_job_changed instead of insert or update or delete on sync_job
for each row execute function sync_job_change();
