-- What people ask of the fleet: all that is in force and, if asked ($1), the latest of what has ended; newest first.
select s.verb, s.node, s.reason, s.asked_by, s.asked_at, s.ends_at, s.ended_at, s.ended_by
from sync_steering s
where s.ended_at is null or $1::boolean
order by s.ended_at is not null, s.id desc
limit 200 + (select count(*) from sync_steering f where f.ended_at is null)
