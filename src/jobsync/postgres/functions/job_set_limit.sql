-- Let at most so many jobs of a kind run at once, in the whole fleet; and at most so many of one limit_key. Null: no limit.
-- It holds for what is taken from now on, exactly: where it was lowered, jobs begin while fewer run than it says, and when this
-- has returned nobody goes by the old one any more.
create or replace function sync_job_set_limit(_kind text, _at_once integer, _per_key integer) returns void
language plpgsql as $$
begin
    if strpos(_kind, E'\t') > 0 then
        -- The names of its places would mix with those of another kind's keys.
        raise exception 'a kind with a tab in its name cannot have a limit' using errcode = '22023';
    end if;
    perform pg_advisory_xact_lock(hashtext('sync_job_limit'), hashtext(_kind));  -- See sync_job_admit.
    if _at_once is null and _per_key is null then
        delete from sync_job_limit m where m.kind = _kind;
    else
        insert into sync_job_limit as m (kind, at_once, per_key) values (_kind, _at_once, _per_key)
        on conflict (kind) do update set at_once = excluded.at_once, per_key = excluded.per_key;
    end if;
    -- Who runs keeps his place, and counts when a limit is set again. A place of a job that does not run would only be in the
    -- way; there should be none.
    delete from sync_job_place p
    where (p.scope = 'kind' and p.name = _kind or p.scope = 'key' and starts_with(p.name, _kind || E'\t'))
      and not exists (
          select from sync_job_lease l
          where l.ids @> array[p.id] and not exists (select from sync_job_end e where e.id = p.id));
    perform pg_notify('sync_job', '');
end $$;
