-- Let this session hear, or hear no more, that jobs may have become free: some were enqueued, or a node that worked on
-- some has died or left. Each notification costs whoever listens, so nodes that nobody asked for it do not.
create or replace function sync_hear_jobs(_wanted boolean) returns void
language plpgsql as $$
begin
    if _wanted then
        execute 'listen sync_job';
    else
        execute 'unlisten sync_job';
    end if;
end $$;
