-- Take jobs out of wherever they wait, one row each with what they had; those that do not wait give no row.
create or replace function sync_job_leave_waiting(_ids bigint[])
returns table (id bigint, attempts smallint, crashes smallint)
language sql as $$
    with ready as (
        delete from sync_job_ready r using sync_job_body b
        where b.id = any (_ids) and (r.lane, r.priority, r.id) = (b.lane, b.priority, b.id)
        returning r.id, r.attempts, r.crashes),
    gated as (delete from sync_job_gated g where g.id = any (_ids) returning g.id, g.attempts, g.crashes),
    later as (delete from sync_job_later t where t.id = any (_ids) returning t.id, t.attempts, t.crashes)
    select * from ready union all select * from gated union all select * from later
$$;
