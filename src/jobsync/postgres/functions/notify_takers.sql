-- Hint that tokens are free, to the nodes for which the plan wants them.
create or replace function sync_notify_takers(_giver text, _tokens int4multirange) returns void
language plpgsql as $$
begin
    perform pg_notify(sync_free_channel(t.node), '')
    from sync_target t
    where t.tokens && _tokens and t.node <> _giver;
end $$;
