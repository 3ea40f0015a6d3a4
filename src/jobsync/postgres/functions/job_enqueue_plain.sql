-- Store one job that any worker may take at once, and wake one up; its id. Null: the kind is new in this queue, and has no
-- lane. It does what sync_job_enqueue does for such a job, without what the others need: a commit is all that it costs.
create or replace function sync_job_enqueue_plain(_queue text, _kind text, _priority integer, _max_attempts integer, _payload jsonb)
returns bigint
language plpgsql as $$
declare
    _id bigint;
    _lane integer;
begin
    select l.lane into _lane from sync_job_lane l where l.queue = _queue and l.kind = _kind;
    if found then
        insert into sync_job_body (lane, priority, max_attempts, payload)
        values (_lane, _priority, _max_attempts, _payload) returning id into _id;
        insert into sync_job_ready (id, lane, priority) values (_id, _lane, _priority);
        perform pg_notify('sync_job', '');
    end if;
    return _id;
end $$;
