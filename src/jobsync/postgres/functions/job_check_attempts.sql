-- Refuse a number of attempts that could not be counted to.
create or replace function sync_job_check_attempts(_max_attempts integer) returns void
language plpgsql immutable as $$
begin
    if _max_attempts is null or _max_attempts not between 1 and 32000 then
        raise exception 'max_attempts is %, and has to be from 1 to 32000', coalesce(_max_attempts::text, 'null') using errcode = '23514';
    end if;
end $$;
