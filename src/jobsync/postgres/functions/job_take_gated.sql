-- Take up to _want jobs that are taken one by one, under one new lease; each begins at once. An affinity's jobs go in
-- order, one at a time, and only to the node that owns the key's token (_node null: to any).
--   _suspects  whether a job that has crashed before may be among them; at most one is
--   _from      the token to look from, in a ring: so that every line gets its turn where there are very many
create or replace function sync_job_take_gated(_worker text, _incarnation bigint, _node text, _lanes integer[], _want integer,
                                               _lease_ms integer, _suspects boolean, _from integer, _now timestamptz default null)
returns table (epoch bigint, id bigint, lane integer, priority integer, attempts smallint, crashes smallint, max_attempts integer,
               created_at timestamptz, job_id text, payload text, affinity text, token integer)
language plpgsql as $$
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
begin
    if not exists (select from sync_job_gated) then
        return;
    end if;
    _lanes := sync_job_open_lanes(_lanes);
    if _node is not null then
        select coalesce(range_agg(t.range), '{}') into _tokens
        from sync_grant g cross join lateral unnest(g.tokens) t(range)
        where g.node = _node and g.incarnation = _incarnation;
    end if;
    for _candidate in
        select c.* from sync_job_candidates(_lanes, _tokens, _want * 4 + 16, _from) c order by c.priority desc, c.id
    loop
        exit when cardinality(_ids) >= _want;
        continue when _candidate.crashes > 0 and not _suspects;
        continue when not sync_job_admit(_candidate.id);
        _ids := _ids || _candidate.id;
        _attempts := _attempts || (_candidate.attempts + 1)::smallint;
        _crashes := _crashes || _candidate.crashes;
        _of := _of || _candidate.token;
        _suspects := _suspects and _candidate.crashes = 0;
    end loop;
    if _ids = '{}' then
        return;
    end if;
    insert into sync_job_lease (worker, incarnation, taken_at, locked_until, ids, attempts, crashes)
    values (_worker, _incarnation, _at, _at + _lease_ms * interval '1 ms', _ids, _attempts, _crashes)
    returning sync_job_lease.epoch into _epoch;
    return query
        select _epoch, b.id, b.lane, b.priority, t.attempts, t.crashes, b.max_attempts, b.created_at, b.job_id, b.payload::text,
               b.affinity, t.token
        from unnest(_ids, _attempts, _crashes, _of) with ordinality t(id, attempts, crashes, token, place)
        join sync_job_body b on b.id = t.id
        order by t.place;
end $$;
