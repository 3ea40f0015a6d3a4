-- Whether a node looks alive: its session stands, and it was heard within half its lease. A guess by the database's clock,
-- good for choosing who watches and for counting, never for taking a token away.
create or replace function sync_seems_well(_node sync_node) returns boolean
language plpgsql volatile as $$
begin
    return _node.last_heartbeat > clock_timestamp() - _node.row_lease_ms * interval '0.5 ms'
       and (_node.session_lease_ms is null or sync_session_seen(_node.backend_pid, _node.backend_start));
end $$;
