-- The longest time, in milliseconds, that any token which a distribution moved was without an owner. Null: each of them had
-- none before, or none has arrived. What came back to the node that had it moved by no plan.
create or replace function sync_uncovered_ms(_plan_version bigint) returns bigint
language sql stable as $$
    select ceil(1000 * extract(epoch from max(greatest(h.granted_at - h.uncovered_at, interval '0'))))::bigint
    from sync_handover h
    where h.plan_version = _plan_version and h.from_node <> h.to_node and h.uncovered_at is not null and h.tokens <> '{[-1,0)}'
$$;
