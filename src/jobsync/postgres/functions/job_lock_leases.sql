-- Lock the leases that list any of these jobs, and give their epochs. Locks are taken in one order everywhere: leases by
-- epoch, then what waits, then ends, then places.
create or replace function sync_job_lock_leases(_ids bigint[]) returns bigint[]
language plpgsql as $$
declare
    _epochs bigint[];
begin
    select array_agg(l.epoch) into _epochs
    from (select s.epoch from sync_job_lease s
          where s.epoch in (select n.epoch from sync_job_lease n cross join lateral unnest(n.ids) u(id)
                            join unnest(_ids) w(id) on w.id = u.id)
          order by s.epoch for update) l;
    return coalesce(_epochs, '{}');
end $$;
