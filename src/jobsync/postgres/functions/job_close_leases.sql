-- Delete those of these leases under which nothing is left to run; the caller has locked them. What a worker takes for the
-- last job of a batch need not be: only the list and the ends tell, and a lease that went too early would lose a job.
-- The plans that a session keeps are made for tables of any size: by index, whatever these were when it began.
create or replace function sync_job_close_leases(_epochs bigint[]) returns void
language plpgsql set enable_seqscan = off as $$
begin
    with over as (
        delete from sync_job_lease l
        where l.epoch = any (_epochs)
          and not exists (
              select from unnest(l.ids) u(id)
              where u.id <> 0 and not exists (select from sync_job_end e where e.id = u.id))
        returning l.epoch, l.worker, l.taken_at, l.locked_until)
    insert into sync_job_past_lease (epoch, worker, taken_at, over_by)
    select o.epoch, o.worker, o.taken_at, o.locked_until from over o;
end $$;
