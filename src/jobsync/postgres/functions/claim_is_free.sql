-- Whether a claim in a run may be taken over: its incarnation is not in the fleet, and the task was never audited.
-- A function of its own, and volatile, since it then looks at the database as it is now: the statement that asks may
-- have waited for a lock while the holder registered, or finished and left.
create or replace function sync_claim_is_free(_run text, _item text, _incarnation bigint) returns boolean
language sql volatile as $$
    select not exists (select from sync_node n where n.incarnation = _incarnation and n.state <> 'fenced')
       and not exists (select from sync_audit_in_run a where a.run = _run and a.item = _item)
$$;
