-- Give up tokens, after the owner stopped believing in them and its work on them is drained. It never waits for a
-- user's transaction that holds one of the grants: it fails at once (lock_not_available) and is asked again.
-- False: the incarnation or its bind is not current.
--   _uncovered_ms  how long ago, by its own clock, the owner stopped believing; it is written down, and decides nothing
create or replace function sync_shrink(_name text, _incarnation bigint, _bind bigint, _give int4multirange,
                                       _uncovered_ms bigint) returns boolean
language plpgsql as $$
declare
    freed int4multirange;
begin
    -- Nobody waits for the disk here. Whoever takes these tokens commits later in the same log, and that commit is flushed
    -- with everything before it; if a crash comes first, the tokens are their old owner's still, who believes in none.
    -- In the quarantine after a fail-over somebody may believe in them by a grant that is lost: what is handed back then must
    -- not be back after a crash, or its old owner would read it as his.
    perform set_config('synchronous_commit', case when (select m.quarantined from sync_meta m) then 'on' else 'off' end, true);
    perform set_config('lock_timeout', '150ms', true);
    perform from sync_node n
    where n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state <> 'fenced'
    for no key update;
    if not found then
        return false;
    end if;
    -- The explicit FOR UPDATE meets the FOR SHARE of sync_still_owner; a plain update would not.
    perform from sync_grant g where g.node = _name and g.tokens && _give order by g.epoch for update nowait;
    -- Asked again after a lost answer there is less to give, or nothing.
    select range_agg(r) into freed from sync_grant g, unnest(g.tokens * _give) r where g.node = _name and g.tokens && _give;
    -- Not `tokens <@ _give`: through a GiST index PostgreSQL compares the bounding range of tokens, and so misses rows with
    -- gaps (seen on 15 and 18).
    delete from sync_grant g where g.node = _name and g.tokens && _give and isempty(g.tokens - _give);
    update sync_grant g set tokens = g.tokens - _give where g.node = _name and g.tokens && _give;
    -- The target names the distribution that changed it last; one that came since, and changed others', took nothing from here.
    insert into sync_handover (tokens, from_node, uncovered_at, plan_version)
    select freed, _name, clock_timestamp() - _uncovered_ms * interval '1 ms',
           (select t.plan_version from sync_target t where t.node = _name)
    where freed is not null;
    perform sync_note_applied(_name);
    perform sync_notify_takers(_name, _give);
    return true;
end $$;
