-- Take up to _want jobs that are taken one by one, under one new lease; each begins at once. An affinity's jobs go in
-- order, one at a time, and only to the node that owns the key's token (_node null: to any).
--   _suspects  whether a job that has crashed before may be among them; at most one is
--   _from      the token to look from, in a ring: so that every line gets its turn where there are very many
--   _max_crashes  so many lost leases make one of these jobs `failed`
-- The plans that a session keeps are made for tables of any size: by index, whatever these were when it began.
create or replace function sync_job_take_gated(_worker text, _incarnation bigint, _node text, _lanes integer[], _want integer,
                                               _lease_ms integer, _suspects boolean, _from integer, _max_crashes integer,
                                               _now timestamptz default null)
returns table (epoch bigint, id bigint, lane integer, priority integer, attempts smallint, crashes smallint, max_attempts integer,
               created_at timestamptz, job_id text, payload text, place integer, affinity text, token integer)
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
#variable_conflict use_column
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _tokens int4multirange := '{(,)}';
    _epoch bigint;
    _ids bigint[] := '{}';
    _attempts smallint[] := '{}';
    _crashes smallint[] := '{}';
    _of integer[] := '{}';
    _candidate record;
    _admitted record;
    _missed boolean;
    _refused boolean;
    _count integer;
    _looks integer := 0;
    _stands boolean := false;
begin
    if not exists (select from sync_node n where n.incarnation = _incarnation and n.state <> 'fenced'
                   -- Who is cordoned or drained gets nothing.
                   and not exists (select from sync_steering s where s.node = n.name and s.ended_at is null)) then
        return;  -- As in sync_job_take.
    end if;
    if not exists (select from sync_job_gated) then
        return;
    end if;
    _lanes := sync_job_open_lanes(_lanes);
    if _node is not null then
        select coalesce(range_agg(t.range), '{}') into _tokens
        from sync_grant g cross join lateral unnest(g.tokens) t(range)
        where g.node = _node and g.incarnation = _incarnation;
    end if;
    _want := least(_want, 500);
    loop
        _looks := _looks + 1;
        _missed := false;
        _refused := false;
        _count := cardinality(_ids);
        for _candidate in
            select distinct on (c.priority, c.id) c.*
            from sync_job_candidates(_lanes, _tokens, _want * 4 + 16, _from, _suspects) c
            order by c.priority desc, c.id
        loop
            exit when cardinality(_ids) >= _want;
            _stands := _stands or sync_job_node_stands(_incarnation);
            exit when not _stands;
            select * into _admitted from sync_job_admit(_candidate.id, _suspects);
            if _admitted.is_mine then
                _ids := _ids || _candidate.id;
                _attempts := _attempts || (_admitted.attempts + 1)::smallint;
                _crashes := _crashes || _admitted.crashes;
                _of := _of || _candidate.token;
                _suspects := _suspects and _admitted.crashes = 0;
            elsif _admitted.is_mine is null then
                _missed := true;
            else
                _refused := true;
            end if;
        end loop;
        -- Where others had candidates in hand that looked free, there may be more behind them: look again, a few times. So it is
        -- where what was taken filled a limit, which the next look knows.
        exit when cardinality(_ids) >= _want
               or not (_missed and _looks < 3 or _refused and cardinality(_ids) > _count);
    end loop;
    if _ids = '{}' then
        return;
    end if;
    insert into sync_job_lease (worker, incarnation, taken_at, locked_until, max_crashes, ids, attempts, crashes)
    values (_worker, _incarnation, _at, _at + _lease_ms * interval '1 ms', _max_crashes, _ids, _attempts, _crashes)
    returning sync_job_lease.epoch into _epoch;
    return query
        select _epoch, b.id, b.lane, b.priority, t.attempts, t.crashes, b.max_attempts, b.created_at, b.job_id::text, b.payload::text,
               t.place::integer, b.affinity::text, t.token
        from unnest(_ids, _attempts, _crashes, _of) with ordinality t(id, attempts, crashes, token, place)
        join sync_job_body b on b.id = t.id
        order by t.place;
end $$;
