-- Enqueue one due time of a periodic job, once whoever asks and however often; null if it was enqueued before. The row is
-- the lock and the memory: what is at or before last_due never comes again, and who dies before the commit has done nothing.
-- The job is called name@due (in UTC), so that people and handlers can tell which time it stands for.
create or replace function sync_job_fire(_name text, _due timestamptz, _now timestamptz default null) returns bigint
language plpgsql as $$
declare
    _id bigint;
    periodic sync_job_periodic;
begin
    update sync_job_periodic c set last_due = _due where c.name = _name and c.last_due < _due returning c.* into periodic;
    if not found then
        return null;
    end if;
    select e.id into _id
    from sync_job_enqueue(array[sync_job_lane_of(periodic.queue, periodic.kind)], array[periodic.priority], array[3],
                          array[_due], array[_name || '@' || to_char(_due at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')],
                          array[null::text], array[null::text], array[periodic.payload], _now, null) e;
    update sync_job_periodic c set last_id = _id where c.name = _name;
    return _id;
end $$;
