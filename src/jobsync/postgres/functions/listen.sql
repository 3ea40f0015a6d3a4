-- Listen to the hints meant for a node. Hints only: whoever misses one reads the truth with the next beat.
create or replace function sync_listen(_name text) returns void
language plpgsql as $$
begin
    execute 'listen sync_plan';
    execute format('listen %I', sync_free_channel(_name));
end $$;
