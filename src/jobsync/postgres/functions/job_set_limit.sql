-- Let at most so many jobs of a kind run at once, in the whole fleet; and at most so many of one limit_key. Null: no limit.
-- It holds for what is taken from now on.
create or replace function sync_job_set_limit(_kind text, _at_once integer, _per_key integer) returns void
language plpgsql as $$
begin
    if _at_once is null and _per_key is null then
        delete from sync_job_limit m where m.kind = _kind;
        delete from sync_job_place p where p.scope = 'kind' and p.name = _kind
            or p.scope = 'key' and starts_with(p.name, _kind || E'\t');
    else
        insert into sync_job_limit as m (kind, at_once, per_key) values (_kind, _at_once, _per_key)
        on conflict (kind) do update set at_once = excluded.at_once, per_key = excluded.per_key;
    end if;
    perform pg_notify('sync_job', '');
end $$;
