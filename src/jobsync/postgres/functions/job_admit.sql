-- Take one job from the gate if its limits allow. is_mine: true, it is the caller's now, with these attempts and crashes so
-- far; false, it must wait; null, others have it in hand. It is read here and nowhere before: it may have run meanwhile.
create or replace function sync_job_admit(_id bigint, _suspects boolean,
                                          out is_mine boolean, out attempts smallint, out crashes smallint)
language plpgsql as $$
declare
    gated sync_job_gated;
    _kind text;
    _at_once integer;
    _per_key integer;
    _key text;
    _is_head boolean;
begin
    select * into gated from sync_job_gated g where g.id = _id for update skip locked;
    if not found then
        return;
    end if;
    is_mine := false;
    attempts := gated.attempts;
    crashes := gated.crashes;
    select n.kind, m.at_once, m.per_key into _kind, _at_once, _per_key
    from sync_job_lane n left join sync_job_limit m on m.kind = n.kind
    where n.lane = gated.lane;
    if _at_once is not null or _per_key is not null then
        -- Whoever changes the limit waits for all who may have read the old one; it is read again under this lock.
        if not pg_try_advisory_xact_lock_shared(hashtext('sync_job_limit'), hashtext(_kind)) then
            is_mine := null;
            return;
        end if;
        _at_once := null;
        _per_key := null;
        select m.at_once, m.per_key into _at_once, _per_key from sync_job_limit m where m.kind = _kind;
    end if;
    _key := case when _per_key is not null then sync_job_key_name(_kind, gated.limit_key) end;
    if gated.crashes > 0 and not _suspects or _key is not null and not sync_job_has_room('key', _key, _per_key) then
        return;
    end if;
    -- Who has the line's place has begun before, and goes first, whoever came to the gate with a smaller number meanwhile.
    _is_head := gated.affinity is not null and exists (
        select from sync_job_place p where p.scope = 'affinity' and p.name = gated.affinity and p.id = _id);
    if (gated.affinity is null or sync_job_enter_place('affinity', gated.affinity, 1, _id))
       and (_at_once is null or sync_job_enter_place('kind', _kind, _at_once, _id))
       and (_key is null or sync_job_enter_place('key', _key, _per_key, _id)) then
        -- Whose turn it is in a line was read before the line's place was had: look again, now that nobody else can move.
        if gated.affinity is null or _is_head
           or not exists (select from sync_job_gated g where g.affinity = gated.affinity and g.id < _id) then
            delete from sync_job_gated g where g.id = _id;
            is_mine := true;
            return;
        end if;
    end if;
    delete from sync_job_place p where p.id = _id and not (p.scope = 'affinity' and _is_head);
    if found then
        -- Somebody may have been refused the place that this one had for an instant.
        perform pg_notify('sync_job', '');
    end if;
end $$;
