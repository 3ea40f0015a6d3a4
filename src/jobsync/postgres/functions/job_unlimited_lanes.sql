-- Of these lanes, those whose kind has no limit. What waits in the others as if it had none, from before the limit was set,
-- is sent to the gate.
create or replace function sync_job_unlimited_lanes(_lanes integer[]) returns integer[]
language plpgsql as $$
declare
    _limited integer[] := array(
        select n.lane from sync_job_lane n join sync_job_limit m on m.kind = n.kind where n.lane = any (_lanes));
begin
    with sent as (
        delete from sync_job_ready r
        where r.ctid = any (array(
            select n.ctid from unnest(_limited) l(lane)
            cross join lateral (
                select w.ctid from sync_job_ready w where w.lane = l.lane
                order by w.priority desc, w.id limit 1000 for update skip locked) n))
        returning r.id, r.lane, r.priority, r.attempts, r.crashes)
    insert into sync_job_gated (id, lane, priority, attempts, crashes)
    select s.id, s.lane, s.priority, s.attempts, s.crashes from sent s;
    if found then
        perform pg_notify('sync_job', '');  -- Who looked at the gate before did not see them there.
    end if;
    return array(select l.lane from unnest(_lanes) l(lane) where l.lane <> all (_limited));
end $$;
