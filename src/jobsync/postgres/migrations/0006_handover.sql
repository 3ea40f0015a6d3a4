-- jobsync schema, version 6: how long tokens were without an owner; who had taken a job that has ended.
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

-- A lease that is over: who had taken which batch, and when. One row a batch, so that no ended job bears its worker's name;
-- its jobs are found by their epoch, in sync_job_end and sync_job_error. It is evidence, and nothing is decided by it: its
-- epoch is not even unique by constraint, lest a duplicate stand in the way of an end.
create table sync_job_past_lease (
    epoch    bigint not null,
    worker   text   not null,
    taken_at timestamptz not null,
    over_by  timestamptz not null  -- it was over by then: as far as it had been extended, or when it was taken back
);
create index sync_job_past_lease_epoch on sync_job_past_lease (epoch);
create index sync_job_past_lease_over_by on sync_job_past_lease using brin (over_by)
    with (pages_per_range = 16, autosummarize = on);

-- Who took a batch of jobs, and when: those under way and those that are over.
create view sync_job_taken as
select l.epoch, l.worker, l.taken_at from sync_job_lease l
union all
select p.epoch, p.worker, p.taken_at from sync_job_past_lease p;

-- Programs of the version before go on meanwhile, and what they call reads and writes here from now on: whoever may use a
-- table may use what was made beside it.
do $body$
declare
    allowed record;
begin
    for allowed in
        select n.made, a.privilege_type as verb, a.grantee::regrole::text as grantee
        from (values ('sync_handover', 'sync_rebalance'), ('sync_job_past_lease', 'sync_job_lease'), ('sync_job_taken', 'sync_job'))
             n(made, kin)
        join pg_class c on c.oid = n.kin::regclass
        cross join lateral aclexplode(c.relacl) a
        where a.grantee <> 0 and a.grantee <> c.relowner
    loop
        execute format('grant %s on %I to %s', allowed.verb, allowed.made, allowed.grantee);
    end loop;
end $body$;
