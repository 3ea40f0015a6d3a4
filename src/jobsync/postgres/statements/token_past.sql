-- Who has had one token ($1), newest first: under which epoch, from when, until when it had no owner (null: still his, or unknown),
-- how long it had had none before, and why it moved.
select h.to_node, h.epoch, h.granted_at, h.next_uncovered_at,
       case when h.granted_at < h.uncovered_at then 0  -- The database's clock was set back.
            else ceil(1000 * extract(epoch from h.granted_at - h.uncovered_at))::bigint end as uncovered_ms,
       case when h.from_node = h.to_node then 'restart' else
           (select b.trigger_reason from sync_rebalance b where b.plan_version = h.plan_version order by b.id desc limit 1) end as reason
from (select o.*, lag(o.uncovered_at) over (order by o.id desc) as next_uncovered_at
      from (select * from sync_handover where tokens @> $1::integer order by id desc limit $2::integer) o) h
where h.granted_at is not null
order by h.id desc
