-- The hand of an operator on one job's status. False: it is not what it was any more.
create or replace function sync_job_change_status(_id bigint, _from text, _to text, _error text) returns boolean
language plpgsql as $$
declare
    lease sync_job_lease;
begin
    if _to not in ('pending', 'retry', 'failed', 'cancelled') then
        raise exception 'the status of a job can be set to pending, retry, failed or cancelled by hand, not to %', _to
            using errcode = '22023';
    end if;
    if _from not in ('pending', 'retry', 'processing') and _to not in ('pending', 'retry') then
        raise exception 'job % has ended (%): set it to pending or retry to run it again', _id, _from using errcode = '55006';
    end if;
    if _from <> 'processing' and _to in ('pending', 'retry') then
        return exists (select from sync_job_retry(array[_id]));
    end if;
    if _from = 'processing' then
        select l.* into lease from sync_job_lease l where l.ids @> array[_id] for update;
        if not found or not sync_job_end_attempt(
            lease.epoch, array_position(lease.ids, _id), _id, case when _to = 'retry' then 'pending' else _to end, null,
            case when _to = 'failed' then coalesce(_error, 'failed by hand') end, null) then
            return false;
        end if;
        perform pg_notify('sync_job', 'cancelled');
        return true;
    end if;
    if not exists (select from sync_job_cancel(array[_id])) then
        return false;
    end if;
    if _to = 'failed' then
        update sync_job_end e set status = 'failed' where e.id = _id;
        insert into sync_job_error (id, attempt, epoch, worker, crashed, error)
        values (_id, 0, 0, current_user, false, coalesce(_error, 'failed by hand'));
    end if;
    return true;
end $$;
