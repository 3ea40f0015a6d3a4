-- Take up to _want of the ready jobs of these lanes, the highest priorities first, under one new lease.
-- Whoever asks at the same time is given others (skip locked). No row: there is none.
-- The plans that a session keeps are made for tables of any size: by index, whatever these were when it began; and they are
-- kept: a plan for each call would cost more than a call does. An idle worker's job waits for every statement in here.
create or replace function sync_job_take(_worker text, _incarnation bigint, _lanes integer[], _want integer, _lease_ms integer,
                                         _now timestamptz default null)
returns table (epoch bigint, id bigint, lane integer, priority integer, attempts smallint, crashes smallint, max_attempts integer,
               created_at timestamptz, job_id text, payload text, place integer)
language plpgsql set enable_seqscan = off set enable_bitmapscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _is_given boolean;
    _any_paused boolean;
    _any_limited boolean;
    _of integer;
    _share integer;
    _ids bigint[];
    _attempts smallint[];
    _crashes smallint[];
    _all_ids bigint[] := '{}';
    _all_attempts smallint[] := '{}';
    _all_crashes smallint[] := '{}';
    _stands boolean := false;
begin
    select exists (select from sync_node n where n.incarnation = _incarnation and n.state <> 'fenced'
                   -- Who is cordoned or drained gets nothing.
                   and not exists (select from sync_steering s where s.node = n.name and s.ended_at is null)),
           exists (select from sync_job_pause), exists (select from sync_job_limit)
    into _is_given, _any_paused, _any_limited;
    if not _is_given then
        return;  -- The worker is taken for dead, and does not know it yet: what it took would be given to others at once.
    end if;
    if _any_paused then
        _lanes := sync_job_open_lanes(_lanes);
    end if;
    if _any_limited then
        _lanes := sync_job_unlimited_lanes(_lanes);
    end if;
    if cardinality(_lanes) = 0 then
        return;
    end if;
    _want := least(_want, 500);
    -- First each lane's share by priority; then, where others took what was counted, whatever any lane has.
    for _of, _share in
        select _lanes[1], _want where cardinality(_lanes) = 1
        union all
        select s.lane, s.share from sync_job_shares(_lanes, _want) s where cardinality(_lanes) > 1
        union all
        select l.lane, _want from unnest(_lanes) l(lane) where cardinality(_lanes) > 1
    loop
        _share := least(_share, _want - cardinality(_all_ids));
        exit when _share <= 0;
        if not _stands then
            continue when not exists (select from sync_job_ready r where r.lane = _of);
            -- Locked before anything is taken, and not for a look in vain, which so writes nothing.
            _stands := sync_job_node_stands(_incarnation);
            exit when not _stands;
        end if;
        with taken as (
            delete from sync_job_ready r
            where r.ctid = any (array(
                select n.ctid from sync_job_ready n where n.lane = _of
                order by n.priority desc, n.id limit _share
                for update skip locked))
            returning r.id, r.priority, (r.attempts + 1)::smallint as attempts, r.crashes
        )
        select array_agg(t.id), array_agg(t.attempts), array_agg(t.crashes) into _ids, _attempts, _crashes
        from (select * from taken order by taken.priority desc, taken.id) t;
        if _ids is not null then
            _all_ids := _all_ids || _ids;
            _all_attempts := _all_attempts || _attempts;
            _all_crashes := _all_crashes || _crashes;
        end if;
    end loop;
    if _all_ids = '{}' then
        return;
    end if;
    return query
        with lease as (
            insert into sync_job_lease (worker, incarnation, taken_at, locked_until, ids, attempts, crashes)
            values (_worker, _incarnation, _at, _at + _lease_ms * interval '1 ms', _all_ids, _all_attempts, _all_crashes)
            returning sync_job_lease.epoch
        )
        select lease.epoch, b.id, b.lane, b.priority, t.attempts, t.crashes, b.max_attempts, b.created_at, b.job_id::text,
               b.payload::text, t.place::integer
        from lease, unnest(_all_ids, _all_attempts, _all_crashes) with ordinality t(id, attempts, crashes, place)
        join sync_job_body b on b.id = t.id
        order by b.priority desc, b.id;
end $$;
