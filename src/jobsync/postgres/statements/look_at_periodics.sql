-- What a worker needs to know once a minute: the time; whether it is the oldest live worker, which is the leader where a
-- worker leads; and the periodic jobs, nulls where there is none.
select clock_timestamp(), p.name, p.schedule, p.timezone, p.last_due,
       not exists (
           select from sync_job_worker w join sync_node n on n.incarnation = w.incarnation and n.state = 'live'
           where w.incarnation < $1::bigint) as is_first
from (select 1) one
left join sync_job_periodic p on true
