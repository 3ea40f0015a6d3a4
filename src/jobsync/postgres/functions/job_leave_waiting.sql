-- Take jobs out of wherever they wait, one row each with what they had; those that do not wait give no row.
-- Statement by statement in the direction in which waiting jobs move, so that each sees what moved while the one before it
-- waited; and row by row in one order, so that two who ask for the same jobs never wait for each other.
create or replace function sync_job_leave_waiting(_ids bigint[])
returns table (id bigint, attempts smallint, crashes smallint)
language plpgsql as $$
#variable_conflict use_column
begin
    perform from sync_job_later t where t.id = any (_ids) order by t.id for update;
    return query delete from sync_job_later t where t.id = any (_ids) returning t.id, t.attempts, t.crashes;
    perform from sync_job_ready r join sync_job_body b on (r.lane, r.priority, r.id) = (b.lane, b.priority, b.id)
    where b.id = any (_ids) order by b.id for update of r;
    return query
        delete from sync_job_ready r using sync_job_body b
        where b.id = any (_ids) and (r.lane, r.priority, r.id) = (b.lane, b.priority, b.id)
        returning r.id, r.attempts, r.crashes;
    perform from sync_job_gated g where g.id = any (_ids) order by g.id for update;
    return query delete from sync_job_gated g where g.id = any (_ids) returning g.id, g.attempts, g.crashes;
end $$;
