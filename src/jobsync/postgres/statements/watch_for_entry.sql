-- The same for a newcomer that is not in the fleet yet: its own name's holder included.
select n.name, n.incarnation, n.bind, n.beats, n.row_lease_ms, n.session_lease_ms,
       n.session_lease_ms is not null
       and n.postmaster_start = pg_postmaster_start_time()
       and not sync_session_seen(n.backend_pid, n.backend_start) as absent,
       n.state = 'leaving' as leaving
from sync_node n
where n.state <> 'fenced' and ($1::text is null or n.name = $1::text)
