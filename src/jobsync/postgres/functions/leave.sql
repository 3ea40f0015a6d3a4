-- The last act of a graceful exit: the row of a node that holds nothing goes. False: it was not this incarnation's.
create or replace function sync_leave(_name text, _incarnation bigint, _bind bigint) returns boolean
language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '150ms', true);
    delete from sync_node n
    where n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state <> 'fenced';
    if not found then
        return false;
    end if;
    perform sync_notify_leader();
    perform pg_notify('sync_job', '');
    return true;
end $$;
