-- Whether an incarnation still holds a token under an epoch, decided by locks alone: until the caller's transaction
-- ends, neither the owner's shrink nor anybody's fence can pass. FOR SHARE, since tokens is no key of the grant.
create or replace function sync_still_owner(_name text, _incarnation bigint, _epoch bigint, _token integer) returns boolean
language plpgsql as $$
begin
    perform from sync_grant g
    where g.epoch = _epoch and g.node = _name and g.incarnation = _incarnation and g.tokens @> _token
    for share;
    return found;
end $$;
