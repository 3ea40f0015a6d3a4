-- One token ($1): who holds it, under which epoch, since when; and for whom the plan wants it.
select (select g.node from sync_grant g where g.tokens @> $1::integer) as node,
       (select g.epoch from sync_grant g where g.tokens @> $1::integer) as epoch,
       (select g.assigned_at from sync_grant g where g.tokens @> $1::integer) as assigned_at,
       (select t.node from sync_target t where t.tokens @> $1::integer) as wanted_for
