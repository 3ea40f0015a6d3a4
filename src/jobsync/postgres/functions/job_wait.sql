-- Put jobs where they wait for their next attempt: later while _run_at lies ahead; else at the gate, if they are to be
-- taken one by one; else with the ready. Only for jobs that wait nowhere else.
create or replace function sync_job_wait(_ids bigint[], _attempts smallint[], _crashes smallint[], _run_at timestamptz,
                                         _now timestamptz default null)
returns void
language plpgsql as $$
begin
    if _run_at > coalesce(_now, clock_timestamp()) then
        insert into sync_job_later (id, run_at, attempts, crashes)
        select w.id, _run_at, w.attempts, w.crashes from unnest(_ids, _attempts, _crashes) w(id, attempts, crashes);
        return;
    end if;
    -- What has crashed is taken singly, so that it takes no innocent with it again; and so is a last attempt, so that
    -- none is charged for one that was fetched ahead and never begun.
    insert into sync_job_gated (id, lane, priority, attempts, crashes, token, affinity, limit_key)
    select b.id, b.lane, b.priority, w.attempts, w.crashes,
           case when b.affinity is not null then coalesce(sync_token_of(b.affinity, m.hash_function, m.total_tokens), 0) end, b.affinity, b.limit_key
    from unnest(_ids, _attempts, _crashes) w(id, attempts, crashes)
    join sync_job_body b on b.id = w.id
    left join sync_meta m on true  -- a snapshot older than the schema, which another may have made, does not see its row
    where sync_job_is_gated(b, w.attempts, w.crashes);
    insert into sync_job_ready (id, lane, priority, attempts, crashes)
    select b.id, b.lane, b.priority, w.attempts, w.crashes
    from unnest(_ids, _attempts, _crashes) w(id, attempts, crashes)
    join sync_job_body b on b.id = w.id
    where not sync_job_is_gated(b, w.attempts, w.crashes);
end $$;
