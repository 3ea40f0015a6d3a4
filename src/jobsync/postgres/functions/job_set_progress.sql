-- Say how far an attempt has come; true if it is still the one that runs.
create or replace function sync_job_set_progress(_epoch bigint, _place integer, _id bigint, _progress integer, _message text,
                                                 _now timestamptz default null)
returns boolean
language plpgsql as $$
begin
    perform from sync_job_lease l where l.epoch = _epoch and l.ids[_place] = _id and _id <> 0 for no key update;
    if not found or exists (select from sync_job_end e where e.id = _id) then
        return false;
    end if;
    insert into sync_job_progress as p (id, progress, message, at)
    values (_id, _progress, _message, coalesce(_now, clock_timestamp()))
    on conflict (id) do update set progress = excluded.progress, message = excluded.message, at = excluded.at;
    return true;
end $$;
