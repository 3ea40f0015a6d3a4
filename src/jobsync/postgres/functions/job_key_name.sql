-- The name of the places of a kind and a limit_key: short, whatever these are, for the index of the places.
create or replace function sync_job_key_name(_kind text, _limit_key text) returns text
language sql immutable as $$
    select case when octet_length(_kind) + octet_length(_limit_key) <= 2000 then _kind || E'\t' || _limit_key
                else md5(_kind || E'\t' || _limit_key) end
$$;
