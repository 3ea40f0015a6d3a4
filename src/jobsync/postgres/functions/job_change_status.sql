-- The hand of an operator on one job's status.
create or replace function sync_job_change_status(_id bigint, _from text, _to text, _error text) returns void
language plpgsql as $$
declare
    lease sync_job_lease;
    _place integer;
begin
    if _to not in ('pending', 'retry', 'failed', 'cancelled') then
        raise exception 'the status of a job can be set to pending, retry, failed or cancelled by hand, not to %', _to
            using errcode = '22023';
    end if;
    if _from = 'processing' then
        select * into lease from sync_job_lease l where l.ids @> array[_id] for update;
        _place := array_position(lease.ids, _id);
        if _place is null or not sync_job_end_attempt(
            lease.epoch, _place, _id, case when _to = 'retry' then 'pending' else _to end, null,
            case when _to = 'failed' then coalesce(_error, 'failed by hand') end, null) then
            raise exception 'job % has just ended: look again', _id using errcode = '55006';
        end if;
        perform pg_notify('sync_job', 'cancelled');
    elsif _to in ('pending', 'retry') then
        perform sync_job_retry(array[_id]);
    elsif _from in ('pending', 'retry') then
        perform sync_job_cancel(array[_id]);
        if _to = 'failed' then
            update sync_job_end e set status = 'failed' where e.id = _id;
            insert into sync_job_error (id, attempt, epoch, worker, crashed, error)
            values (_id, 0, 0, current_user, false, coalesce(_error, 'failed by hand'));
        end if;
    else
        raise exception 'job % has ended (%): set it to pending or retry to run it again', _id, _from using errcode = '55006';
    end if;
end $$;
