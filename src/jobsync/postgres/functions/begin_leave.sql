-- Announce a graceful exit: the leader plans without this node, which keeps its tokens until successors are named.
-- No row: the incarnation was fenced. Gives the number of live nodes that remain
-- and take tokens.
create or replace function sync_begin_leave(_name text, _incarnation bigint, _bind bigint) returns table (live integer)
language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '150ms', true);
    update sync_node n set state = 'leaving', beats = n.beats + 1, last_heartbeat = clock_timestamp()
    where n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state <> 'fenced';
    if not found then
        return;
    end if;
    perform sync_notify_leader();
    perform pg_notify('sync_job', '');
    return query select count(*)::integer from sync_node n where n.state = 'live' and n.takes_tokens;
end $$;
