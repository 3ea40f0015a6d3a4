-- Give up the places of jobs that run no more; who will be tried again keeps its affinity's. Wakes workers if others may
-- run now.
-- The plans that a session keeps are made for tables of any size: by index, whatever these were when it began.
create or replace function sync_job_leave_places(_ids bigint[], _again boolean) returns void
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
begin
    if not exists (select from sync_job_place) then
        return;
    end if;
    delete from sync_job_place p where p.id = any (_ids) and not (_again and p.scope = 'affinity');
    if found then
        perform pg_notify('sync_job', '');
    end if;
end $$;
