-- Of these lanes, those whose queue is not paused.
create or replace function sync_job_open_lanes(_lanes integer[]) returns integer[]
language plpgsql stable as $$
begin
    if not exists (select from sync_job_pause) then
        return _lanes;
    end if;
    return array(
        select n.lane from sync_job_lane n
        where n.lane = any (_lanes) and not exists (select from sync_job_pause p where p.queue = n.queue));
end $$;
