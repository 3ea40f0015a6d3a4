-- Delete what is past its retention, a bounded number of rows at a time and never waiting for a lock, so that the leader
-- may do it on its own session between two beats. A null retention keeps for ever. True: there is more to delete.
-- Whole days of claims and audits without a run are not deleted here but dropped, off the session (sync_drop_day).
create or replace function sync_prune(_claim_days double precision, _audit_days double precision,
                                      _rebalance_days double precision, _dead_node_days double precision)
returns boolean
language plpgsql as $$
declare
    at_most constant integer := 2000;
    deleted integer;
    most_deleted integer := 0;
begin
    perform set_config('lock_timeout', '150ms', true);
    insert into sync_retention as r (claim_days, audit_days) values (_claim_days, _audit_days)
    on conflict (singleton) do update set claim_days = excluded.claim_days, audit_days = excluded.audit_days
    where (r.claim_days, r.audit_days) is distinct from (excluded.claim_days, excluded.audit_days);
    delete from sync_claim_in_run c where c.ctid = any (array(
        select o.ctid from sync_claim_in_run o where o.created_on < clock_timestamp() - _claim_days * interval '1 day'
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    delete from sync_claim_rest c where c.ctid = any (array(
        select o.ctid from sync_claim_rest o where o.created_on < clock_timestamp() - _claim_days * interval '1 day'
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    delete from sync_audit_in_run a where a.ctid = any (array(
        select o.ctid from sync_audit_in_run o where o.created_on < clock_timestamp() - _audit_days * interval '1 day'
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    delete from sync_audit_rest a where a.ctid = any (array(
        select o.ctid from sync_audit_rest o where o.created_on < clock_timestamp() - _audit_days * interval '1 day'
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    delete from sync_rebalance b where b.ctid = any (array(
        select o.ctid from sync_rebalance o where o.triggered_at < clock_timestamp() - _rebalance_days * interval '1 day'
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    -- Hand-overs stay as long as the distribution that they belong to, and what is still nobody's as long as any would.
    delete from sync_handover h where h.ctid = any (array(
        select o.ctid from sync_handover o
        where (o.granted_at is not null
               and o.plan_version < coalesce((select min(b.plan_version) from sync_rebalance b), o.plan_version + 1))
           or (o.granted_at is null and o.uncovered_at < clock_timestamp() - _rebalance_days * interval '1 day')
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    delete from sync_steering s where s.ended_at < clock_timestamp() - _rebalance_days * interval '1 day';
    delete from sync_node n where n.ctid = any (array(
        select o.ctid from sync_node o
        where o.state = 'fenced' and o.last_heartbeat < clock_timestamp() - _dead_node_days * interval '1 day'
        limit at_most for update skip locked));
    get diagnostics deleted = row_count;
    most_deleted := greatest(most_deleted, deleted);
    return most_deleted = at_most;
end $$;
