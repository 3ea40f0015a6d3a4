-- The token of a task: what the library computes, for locks kept across a change of total_tokens and for people.
create or replace function sync_token_of(_task_id text, _hash_function text, _total_tokens integer) returns integer
language plpgsql immutable strict as $$
declare
    digest bytea;
    number numeric := 0;
begin
    case _hash_function
        when 'double_sha256' then digest := substring(sha256(sha256(convert_to(_task_id, 'UTF8'))) from 1 for 8);
        when 'sha256' then digest := substring(sha256(convert_to(_task_id, 'UTF8')) from 1 for 8);
        when 'md5' then digest := decode(md5(convert_to(_task_id, 'UTF8')), 'hex');
        else raise exception 'unknown hash function %', _hash_function;
    end case;
    for i in 0 .. length(digest) - 1 loop
        number := number * 256 + get_byte(digest, i);
    end loop;
    return mod(number, _total_tokens)::integer;
end $$;
