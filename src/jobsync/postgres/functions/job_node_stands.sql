-- Whether a worker's node is alive, and stays so until this transaction ends: who fences it comes before, and it is seen, or after,
-- and finds the lease that was written meanwhile.
create or replace function sync_job_node_stands(_incarnation bigint) returns boolean
language plpgsql as $$
begin
    perform from sync_node n where n.incarnation = _incarnation and n.state <> 'fenced' for key share;
    return found;
end $$;
