-- End what is in force for one node, or for the fleet (_node null), or everything (_all). A row for each: verb and node.
create or replace function sync_resume(_node text, _all boolean, _by text) returns table (verb text, node text)
language plpgsql as $$
#variable_conflict use_column
begin
    perform set_config('lock_timeout', '5s', true);
    perform pg_advisory_xact_lock(hashtext('sync_steering'));
    return query
        update sync_steering s set ended_at = clock_timestamp(), ended_by = coalesce(_by, session_user)
        where s.ended_at is null and (_all or s.node is not distinct from _node)
        returning s.verb, s.node;
end $$;
