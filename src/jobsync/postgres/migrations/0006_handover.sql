-- jobsync schema, version 6: how long tokens were without an owner.
--
-- One row for tokens that passed together from one node to another, written when they are given up or their node is fenced,
-- and completed when they are granted. What has no granted_at is nobody's now. Nothing is decided by these rows.
create table sync_handover (
    id           bigint generated always as identity primary key,
    tokens       int4multirange not null check (not isempty(tokens)),
    from_node    text,         -- null: nobody had them, as far as these rows go back
    uncovered_at timestamptz,  -- when that node ceased to believe in them; of a fenced one the last sign of life that was seen
    fence_rule   text,         -- by which rule it was fenced; null: it gave them up
    to_node      text,
    epoch        bigint,       -- of the grant
    plan_version bigint,       -- of the distribution that took them away, or was the first after a fence; else the new owner's
    granted_at   timestamptz
);
create index sync_handover_plan_version on sync_handover (plan_version);
create index sync_handover_uncovered on sync_handover (id) where granted_at is null;

-- Nodes of the version before go on meanwhile, and what they call writes here from now on: whoever may use the history may
-- use this.
do $body$
declare
    allowed record;
begin
    for allowed in
        select a.privilege_type as verb, a.grantee::regrole::text as grantee
        from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.oid = 'sync_rebalance'::regclass and a.grantee <> 0 and a.grantee <> c.relowner
    loop
        execute format('grant %s on sync_handover to %s', allowed.verb, allowed.grantee);
    end loop;
end $body$;
