-- Let the jobs whose time has come wait with the ready; at most _most at once. Gives when the next one is due: in the past
-- where more are due, null where none waits.
-- The plans that a session keeps are made for tables of any size: by index, whatever these were when it began.
create or replace function sync_job_promote(_most integer, _now timestamptz default null) returns timestamptz
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    _at timestamptz := coalesce(_now, clock_timestamp());
    _ids bigint[];
    _attempts smallint[];
    _crashes smallint[];
begin
    with due as (
        delete from sync_job_later l
        where l.id = any (array(
            select n.id from sync_job_later n where n.run_at <= _at order by n.run_at limit _most for update skip locked))
        returning l.id, l.attempts, l.crashes)
    select array_agg(d.id), array_agg(d.attempts), array_agg(d.crashes) into _ids, _attempts, _crashes from due d;
    if _ids is not null then
        perform sync_job_wait(_ids, _attempts, _crashes, null, _at);
        perform pg_notify('sync_job', '');
    end if;
    return (select min(l.run_at) from sync_job_later l);
end $$;
