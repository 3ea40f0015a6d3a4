-- Take one job from the gate if its limits allow; true if it is the caller's now.
create or replace function sync_job_admit(_id bigint) returns boolean
language plpgsql as $$
declare
    gated sync_job_gated;
    _kind text;
    _at_once integer;
    _per_key integer;
begin
    select * into gated from sync_job_gated g where g.id = _id for update skip locked;
    if not found then
        return false;
    end if;
    select n.kind, m.at_once, m.per_key into _kind, _at_once, _per_key
    from sync_job_lane n left join sync_job_limit m on m.kind = n.kind
    where n.lane = gated.lane;
    if (gated.affinity is null or sync_job_enter_place('affinity', gated.affinity, 1, _id))
       and (_at_once is null or sync_job_enter_place('kind', _kind, _at_once, _id))
       and (_per_key is null or gated.limit_key is null
            or sync_job_enter_place('key', _kind || E'\t' || gated.limit_key, _per_key, _id)) then
        -- Whose turn it is in a line was read before the line's place was had: look again, now that nobody else can move.
        if gated.affinity is null
           or not exists (select from sync_job_gated g where g.affinity = gated.affinity and g.id < _id) then
            delete from sync_job_gated g where g.id = _id;
            return true;
        end if;
    end if;
    delete from sync_job_place p where p.id = _id and not (p.scope = 'affinity' and gated.attempts > 0);
    return false;
end $$;
