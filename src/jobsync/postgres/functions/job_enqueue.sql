-- Store jobs, in order: one row each, with the id and whether it is new. A job_id that stands already gives the job that
-- has it, whatever its state, and nothing of that job is changed. Arrays of one length; run_at null: at once; _traces null: none.
-- No argument has a default, so that calls of older programs find the older function, where it still stands.
create or replace function sync_job_enqueue(
    _lanes integer[], _priorities integer[], _max_attempts integer[], _run_at timestamptz[], _job_ids text[],
    _affinities text[], _limit_keys text[], _payloads jsonb[], _now timestamptz, _traces text[])
returns table (place integer, id bigint, is_new boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _ids bigint[];
    _fresh bigint[];
    _all_fresh bigint[] := '{}';
    _due bigint[];
    _known bigint[];
begin
    perform sync_job_check_attempts(m) from unnest(_max_attempts) m;
    -- Numbers first: an insert does not give its rows back in the order in which they were asked for.
    select array_agg(nextval('sync_job_number') order by a.place) into _ids
    from generate_series(1, cardinality(_lanes)) a(place);
    loop
        with stored as (
            insert into sync_job_body (id, lane, priority, max_attempts, created_at, run_at, job_id, affinity, limit_key, payload,
                                       trace_context)
            select a.id, a.lane, a.priority, a.max_attempts, _at, a.run_at, a.job_id, a.affinity, a.limit_key, a.payload, a.trace
            from unnest(_ids, _lanes, _priorities, _max_attempts, _run_at, _job_ids, _affinities, _limit_keys, _payloads, _traces)
                 with ordinality a(id, lane, priority, max_attempts, run_at, job_id, affinity, limit_key, payload, trace, place)
            where _known is null or _known[a.place] is null
            order by a.job_id, a.place  -- one order for all: two callers that share keys wait for each other, and never in a ring
            on conflict (job_id) where job_id is not null do nothing
            returning id)
        select array_agg(s.id) into _fresh from stored s;
        _all_fresh := _all_fresh || coalesce(_fresh, '{}');
        exit when cardinality(_all_fresh) = cardinality(_ids);
        -- A statement of its own, so that it sees a job that another transaction stored while this one waited for its key.
        select array_agg(coalesce(b.id, f.id) order by a.place) into _known
        from unnest(_ids, _job_ids) with ordinality a(id, job_id, place)
        left join unnest(_all_fresh) f(id) on f.id = a.id
        left join sync_job_body b on b.job_id = a.job_id;
        -- Whoever had a key may have been deleted between the two statements; then the key is free now.
        exit when array_position(_known, null) is null;
    end loop;
    insert into sync_job_later (id, run_at)
    select f.id, a.run_at from unnest(_all_fresh) f(id) join unnest(_ids, _run_at) a(id, run_at) on a.id = f.id
    where a.run_at > _at;
    select array_agg(f.id) into _due
    from unnest(_all_fresh) f(id) join unnest(_ids, _run_at) a(id, run_at) on a.id = f.id
    where a.run_at is null or a.run_at <= _at;
    if _due is not null then
        perform sync_job_wait(_due, array_fill(0::smallint, array[cardinality(_due)]),
                              array_fill(0::smallint, array[cardinality(_due)]), null, _at);
    end if;
    if _all_fresh <> '{}' then
        perform pg_notify('sync_job', '');
    end if;
    return query
        select a.place::integer, coalesce(_known[a.place], a.id), coalesce(_known[a.place] = a.id, true)
        from unnest(_ids) with ordinality a(id, place)
        order by a.place;
end $$;
