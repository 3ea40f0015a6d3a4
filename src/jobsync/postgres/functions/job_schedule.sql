-- Set what is enqueued at the due times of a cron expression. What is set already, as every worker does when it starts, is
-- left alone: its due times that passed meanwhile are still to come. Another expression or time zone counts from now on.
create or replace function sync_job_schedule(_name text, _schedule text, _timezone text, _queue text, _kind text, _payload jsonb,
                                             _priority integer, _now timestamptz default null)
returns void
language sql as $$
    insert into sync_job_periodic as c (name, schedule, timezone, queue, kind, payload, priority, last_due)
    values (_name, _schedule, _timezone, _queue, _kind, _payload, _priority, coalesce(_now, clock_timestamp()))
    on conflict (name) do update
    set schedule = excluded.schedule, timezone = excluded.timezone, queue = excluded.queue, kind = excluded.kind,
        payload = excluded.payload, priority = excluded.priority,
        last_due = case when (c.schedule, c.timezone) = (excluded.schedule, excluded.timezone) then c.last_due
                        else excluded.last_due end
    where (c.schedule, c.timezone, c.queue, c.kind, c.payload, c.priority)
          is distinct from (excluded.schedule, excluded.timezone, excluded.queue, excluded.kind, excluded.payload, excluded.priority)
$$;
