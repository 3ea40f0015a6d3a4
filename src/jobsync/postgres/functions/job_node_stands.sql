-- Whether a worker's node is alive, and stays so until this transaction ends: who fences it comes before, and it is seen, or after,
-- and finds the lease that was written meanwhile. An epoch is drawn next, so a server that nobody has met yet is recognised
-- before: after a fail-over a worker's connections may be there before its node is, and the epochs of takes that were lost with the
-- old server would be given again, to name two attempts.
create or replace function sync_job_node_stands(_incarnation bigint) returns boolean
language plpgsql as $$
begin
    perform sync_recognise_server(s.system_id, s.timeline)
    from sync_meta m, sync_this_server() s
    where m.system_id is not null and (m.system_id, m.timeline) is distinct from (s.system_id, s.timeline);
    perform from sync_node n where n.incarnation = _incarnation and n.state <> 'fenced' for key share;
    return found;
end $$;
