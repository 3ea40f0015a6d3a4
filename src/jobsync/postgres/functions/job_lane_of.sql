-- The number of a kind of jobs in a queue; given at its first mention. Called apart from the caller's transaction: a lane
-- that was made in a transaction which then goes on for long would keep others of the kind waiting.
create or replace function sync_job_lane_of(_queue text, _kind text) returns integer
language plpgsql as $$
declare
    known integer;
begin
    select n.lane into known from sync_job_lane n where n.queue = _queue and n.kind = _kind;
    if known is null then
        insert into sync_job_lane (queue, kind) values (_queue, _kind) on conflict (queue, kind) do nothing;
        select n.lane into strict known from sync_job_lane n where n.queue = _queue and n.kind = _kind;
    end if;
    return known;
end $$;
