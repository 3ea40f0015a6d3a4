-- Whether one more may run within a limit. It promises nothing: the primary key of the places decides (sync_job_enter_place).
create or replace function sync_job_has_room(_scope text, _name text, _most integer) returns boolean
language plpgsql stable as $$
begin
    return (select count(*) < _most from sync_job_place p where p.scope = _scope and p.name = _name);
end $$;
