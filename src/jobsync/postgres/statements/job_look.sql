-- What a worker looks after from time to time, in one statement: take back what was lost, let wait what is due, and tell
-- whether anything of these lanes waits, and whether this worker's node is cordoned or drained. next_due_sec: until the next
-- delayed job is due; below 0: more are. any_due: whether any was due; what this statement lets wait is not among the ready that it
-- sees, which are those of its beginning.
select sync_job_recover() as recovered,
       extract(epoch from sync_job_promote(1000) - clock_timestamp())::float8 as next_due_sec,
       (select count(*)::integer from sync_job_lane) as lanes,
       exists (select from sync_job_ready r where r.lane = any ($1::integer[])) as any_ready,
       exists (select from sync_job_gated) as any_gated,
       (select s.verb from sync_steering s where s.node = $2::text and s.ended_at is null) as steered,
       exists (select from sync_job_later t where t.run_at <= clock_timestamp()) as any_due
