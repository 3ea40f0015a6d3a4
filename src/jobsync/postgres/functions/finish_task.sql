-- The last statement of a user's transaction: prove that the task is still this node's, and record that it is done.
-- The caller rolls back unless the outcome is 'done'.
--   done     the audit is written (or stands, with _repeat)
--   already  the task is audited in this run, or for this date: a unique constraint says so
--   lost     the token, or in a run the claim, is not this incarnation's any more
create or replace function sync_finish_task(
    _name text, _incarnation bigint, _epoch bigint, _token integer, _item text, _date date, _run text, _repeat boolean)
returns text
language plpgsql as $$
declare
    holder bigint;
begin
    -- The caller's own deferred triggers do their work now, while a fence can still pass, and not at COMMIT, when it waits.
    set constraints all immediate;
    -- From here on a fence of this node waits for the caller's COMMIT, which may take five seconds and no longer, whatever
    -- the caller has set for his own work.
    perform set_config('idle_in_transaction_session_timeout', '5000', true);
    if not sync_still_owner(_name, _incarnation, _epoch, _token) then
        return 'lost';
    end if;
    if _run is null then
        insert into sync_audit_by_date (node, item, date) values (_name, _item, _date) on conflict do nothing;
        return case when found or _repeat then 'done' else 'already' end;
    end if;
    insert into sync_claim_in_run as c (node, item, date, run, incarnation) values (_name, _item, _date, _run, _incarnation)
    on conflict (run, item) do update set node = excluded.node, incarnation = excluded.incarnation
    where c.incarnation <> excluded.incarnation and sync_claim_is_free(c.run, c.item, c.incarnation);
    select c.incarnation into holder from sync_claim_in_run c where c.run = _run and c.item = _item;
    if holder is distinct from _incarnation then
        return case when exists (select from sync_audit_in_run a where a.run = _run and a.item = _item)
                    then 'already' else 'lost' end;
    end if;
    insert into sync_audit_in_run (node, item, date, run) values (_name, _item, _date, _run) on conflict do nothing;
    return case when found or _repeat then 'done' else 'already' end;
end $$;
