-- Cordon or drain a node, or freeze the fleet (_node null) for so many seconds (null: until resumed). What was in force for
-- the same node, or the fleet, ends with it. False: it was in force as asked already, and nothing was written.
create or replace function sync_steer(_verb text, _node text, _reason text, _by text, _for_sec double precision) returns boolean
language plpgsql as $$
declare
    by_whom constant text := coalesce(_by, session_user);
begin
    perform set_config('lock_timeout', '5s', true);
    perform pg_advisory_xact_lock(hashtext('sync_steering'));
    if _for_sec is null and exists (select from sync_steering s where s.ended_at is null and s.verb = _verb
                                    and s.node is not distinct from _node and s.ends_at is null) then
        return false;
    end if;
    update sync_steering s set ended_at = clock_timestamp(), ended_by = by_whom
    where s.ended_at is null and s.node is not distinct from _node;
    insert into sync_steering (verb, node, reason, asked_by, ends_at)
    values (_verb, _node, _reason, by_whom, clock_timestamp() + _for_sec * interval '1 second');
    return true;
end $$;
