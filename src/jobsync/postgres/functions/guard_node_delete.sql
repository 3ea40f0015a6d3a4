-- DELETE on sync_node is a request. A row that holds nothing goes at once; a silent node's row goes when it is
-- fenced; a live node is left alone.
create or replace function sync_guard_node_delete() returns trigger
language plpgsql as $$
begin
    if not exists (select from sync_grant g where g.node = old.name) then
        return old;
    end if;
    if old.last_heartbeat < clock_timestamp() - old.row_lease_ms * interval '1 ms'
       or (old.session_lease_ms is not null and not sync_session_seen(old.backend_pid, old.backend_start)) then
        update sync_node n set delete_requested = true where n.name = old.name;
        raise notice 'node "%" still holds tokens: its row goes as soon as a live node has fenced it', old.name;
    else
        raise notice 'node "%" is alive and holds tokens: to take it out of the fleet run: jobsync drain %', old.name, old.name;
    end if;
    return null;
end $$;

create or replace trigger sync_node_delete before delete on sync_node
for each row execute function sync_guard_node_delete();
