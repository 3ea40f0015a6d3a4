-- Hint that the plan may not fit any more. The payload names the leader: the others need not look before it has planned.
create or replace function sync_notify_leader() returns void
language plpgsql as $$
begin
    perform pg_notify('sync_plan', coalesce(
        (select n.name from sync_node n where n.state = 'live'
         order by n.name = any (array(select s.node from sync_steering s where s.verb = 'drain' and s.ended_at is null)),
                  n.takes_tokens desc, n.created_on, n.name limit 1), ''));
end $$;
