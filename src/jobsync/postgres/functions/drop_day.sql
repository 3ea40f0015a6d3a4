-- Drop one day's table of claims or audits when its youngest row is past the retention that the leader wrote down.
--   dropped  one is gone; there may be more
--   busy     somebody works on it, or the fleet could not be kept off for an instant: ask again later
--   nothing  no day is old enough, or somebody else is at it
-- Finding that out reads the table once, without a lock that anybody meets. Dropping excludes whoever claims or audits by
-- date, for as long as one of their statements runs and at most 50 ms; the files are removed after that lock is released.
create or replace function sync_drop_day() returns text
language plpgsql as $$
declare
    day record;
    summary regclass;
    is_young boolean;
begin
    if not pg_try_advisory_xact_lock(hashtext('sync_drop_day')) then
        return 'nothing';
    end if;
    perform set_config('synchronous_commit', 'off', true);
    perform set_config('lock_timeout', '50ms', true);
    perform set_config('enable_seqscan', 'off', true);
    for day in
        select c.oid::regclass as leaf, clock_timestamp() - kept.days * interval '1 day' as cutoff
        from sync_retention r
        cross join lateral (values ('sync_claim_by_date'::regclass, r.claim_days),
                                   ('sync_audit_by_date'::regclass, r.audit_days)) kept (parent, days)
        join pg_inherits i on i.inhparent = kept.parent
        join pg_class c on c.oid = i.inhrelid and c.relname ~ '_[0-9]{8}$'
        where right(c.relname, 8)::date < (clock_timestamp() - kept.days * interval '1 day')::date
        order by c.relname
    loop
        select i.indexrelid::regclass into summary
        from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
        where i.indrelid = day.leaf and a.amname = 'brin';
        perform brin_summarize_new_values(summary);
        execute format('select exists (select from %s where created_on >= $1)', day.leaf) into is_young using day.cutoff;
        continue when is_young;
        execute format('lock table %s in access exclusive mode', day.leaf);
        execute format('select exists (select from %s where created_on >= $1)', day.leaf) into is_young using day.cutoff;
        continue when is_young;
        execute format('drop table %s', day.leaf);
        return 'dropped';
    end loop;
    return 'nothing';
exception when lock_not_available or deadlock_detected then
    return 'busy';
end $$;
