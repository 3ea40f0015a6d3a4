-- Strike jobs out of the lists of these leases, which the caller has locked: they are to be run there no more.
create or replace function sync_job_strike_out(_epochs bigint[], _ids bigint[]) returns void
language plpgsql as $$
begin
    update sync_job_lease l
    set ids = (select array_agg(case when u.id = any (_ids) then 0 else u.id end order by u.place)
               from unnest(l.ids) with ordinality u(id, place))
    where l.epoch = any (_epochs);
end $$;
