-- Hints only: whoever misses one reads the truth with the next beat.
do $$ begin
    execute 'listen sync_plan';
    execute 'listen sync_free';
end $$
