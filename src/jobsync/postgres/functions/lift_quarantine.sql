-- Called by a node that has itself waited a whole lease since it first saw the quarantine of this generation.
create or replace function sync_lift_quarantine(_generation bigint) returns boolean
language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '150ms', true);
    update sync_meta m set quarantined = false where m.generation = _generation and m.quarantined;
    if found then
        perform pg_notify('sync_plan', '');
    end if;
    return found;
end $$;
