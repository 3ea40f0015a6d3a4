-- What a worker needs to know once a minute: the time; whether it is the oldest live worker, which is the leader where a
-- worker leads; and the periodic jobs, nulls where there is none. Instants are in microseconds since 1970.
select (extract(epoch from clock_timestamp()) * 1000000)::bigint as now_us,
       not exists (
           select from sync_job_worker w join sync_node n on n.incarnation = w.incarnation and n.state = 'live'
           where w.incarnation < $1::bigint) as is_first,
       p.name, p.schedule, p.timezone, (extract(epoch from p.last_due) * 1000000)::bigint as last_due_us
from (select 1) one
left join sync_job_periodic p on true
