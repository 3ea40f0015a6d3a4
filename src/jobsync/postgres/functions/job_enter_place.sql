-- Find a place within a limit for a job that is about to run; true if it has one. Never waits: where two ask for the same
-- place at one instant, one of them is refused. The primary key holds the limit, whatever is read here.
create or replace function sync_job_enter_place(_scope text, _name text, _most integer, _id bigint) returns boolean
language plpgsql as $$
declare
    _number integer;
begin
    if exists (select from sync_job_place p where p.scope = _scope and p.name = _name and p.id = _id) then
        return true;
    end if;
    -- Only the lowest free places may be had, as many as the limit leaves. Where none is taken beyond the limit, that is all of
    -- them. Where it was lowered, the highest of its places stand for those beyond it, and nobody may have them, however old his
    -- look is: for who left since then a place became free that is not counted yet, and never the other way.
    for _number in
        select f.number
        -- Enough to find a free one, and some more for others who look now; not all of a very high limit.
        from generate_series(1, least(_most, 64 + (
            select count(*) from sync_job_place p where p.scope = _scope and p.name = _name))::integer) f(number)
        where not exists (select from sync_job_place p where p.scope = _scope and p.name = _name and p.number = f.number)
        order by f.number
        limit greatest(0, _most - (select count(*) from sync_job_place p where p.scope = _scope and p.name = _name))
    loop
        -- Without the advisory lock the insert would wait for another's transaction, and two might wait for each other.
        if pg_try_advisory_xact_lock(hashtext('sync_job_place'), hashtext(format('%s %s %s', _scope, _number, _name)))
           -- Under the lock it is looked at again: taken and freed meanwhile, the place would have to be waited for.
           and not exists (select from sync_job_place p where p.scope = _scope and p.name = _name and p.number = _number) then
            insert into sync_job_place (scope, name, number, id) values (_scope, _name, _number, _id)
            on conflict (scope, name, number) do nothing;
            if found then
                return true;
            end if;
        end if;
    end loop;
    return false;
end $$;
