-- Compare the server with the one that the rows were written on. On another server or timeline the last commits
-- may be missing here, so somebody may believe in a grant that this server does not know: no token is granted
-- until whoever saw the change has waited a whole lease (see sync_lift_quarantine).
create or replace function sync_recognise_server(_system_id text, _timeline text,
                                                 out generation bigint, out quarantined boolean)
language plpgsql as $$
declare
    known sync_meta;
begin
    perform sync_require_server(_system_id, _timeline);
    select * into known from sync_meta m;
    if known.system_id is distinct from _system_id or known.timeline is distinct from _timeline then
        update sync_meta m set
            -- Drawn, not counted: the row that would be counted up is among what a fail-over may roll back.
            generation = case when m.system_id is null then m.generation
                              else hashtextextended(gen_random_uuid()::text, 0) end,
            quarantined = m.system_id is not null,  -- even with no node in sight: its row may be among what was lost
            system_id = _system_id,
            timeline = _timeline
        where m.system_id is distinct from _system_id or m.timeline is distinct from _timeline;
        if found and known.system_id is not null then
            -- Numbers given out in lost commits must not be given again.
            perform setval('sync_epoch', nextval('sync_epoch') + 1000000);
            perform setval('sync_job_number', nextval('sync_job_number') + 1000000);
        end if;
        select * into known from sync_meta m;
    end if;
    generation := known.generation;
    quarantined := known.quarantined;
end $$;
