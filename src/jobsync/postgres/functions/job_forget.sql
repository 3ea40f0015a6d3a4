-- Forget a job that does not run: every trace of it goes. False: it runs, or is not there any more.
create or replace function sync_job_forget(_id bigint) returns boolean
language plpgsql as $$
declare
    _epoch bigint;
    _waited boolean;
    _ended boolean;
begin
    -- A batch under way may still list it: without its end it would seem to run there.
    select l.epoch into _epoch from sync_job_lease l
    where l.epoch = (select e.epoch from sync_job_end e where e.id = _id) for update;
    perform sync_job_leave_waiting(array[_id]);
    _waited := found;
    delete from sync_job_end e
    where e.id = _id and (e.epoch = _epoch or not exists (select from sync_job_lease l where l.epoch = e.epoch));
    _ended := found;
    if not _waited and not _ended then
        return false;
    end if;
    perform sync_job_strike_out(array[_epoch], array[_id]);
    perform sync_job_leave_places(array[_id], false);
    delete from sync_job_body b where b.id = _id;
    delete from sync_job_error e where e.id = _id;
    delete from sync_job_progress p where p.id = _id;
    -- Who stood behind it in an affinity's line may run now.
    perform pg_notify('sync_job', '');
    return true;
end $$;
