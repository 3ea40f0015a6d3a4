-- See that a date has tables of its own for what is claimed and done without a run. Many may ask at once: one makes them, the
-- others wait for it. False: this date's rows go to the rest, which serves as well and is pruned row by row. That is so for
-- dates far from today, for a role that may not create tables, and where rows of that date lie in the rest already.
create or replace function sync_make_day(_day date) returns boolean
language plpgsql as $$
declare
    kind text;
    leaf text;
begin
    if _day not between current_date - 31 and current_date + 7 then
        return false;
    end if;
    if (select count(*) = 2 from pg_class c where c.relname in ('sync_claim' || to_char(_day, '_YYYYMMDD'),
        'sync_audit' || to_char(_day, '_YYYYMMDD')) and c.relispartition and pg_table_is_visible(c.oid)) then
        return true;
    end if;
    perform set_config('lock_timeout', '2s', true);
    perform pg_advisory_xact_lock(hashtext('sync_make_day'));
    -- Attaching excludes those who write to the rest, and nobody else; it shall not make them wait for long either.
    perform set_config('lock_timeout', '100ms', true);
    foreach kind in array array['sync_claim', 'sync_audit'] loop
        leaf := kind || to_char(_day, '_YYYYMMDD');
        continue when exists (select from pg_class c where c.relname = leaf and pg_table_is_visible(c.oid));
        execute format('create table %I (like %I including defaults)', leaf, kind || '_by_date');
        execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                       kind || '_by_date', leaf, _day, _day + 1);
    end loop;
    return true;
exception when insufficient_privilege or lock_not_available or check_violation or deadlock_detected then
    return false;
end $$;
