-- What an incarnation holds, by epoch: after a broken session this is the truth.
--   _system_id, _timeline   given behind a pooler: the server whose rows are meant. After a fail-over those of another may name this
--                           incarnation for what it has given away in commits that are lost, and that somebody else was granted
create or replace function sync_read_grants(_name text, _incarnation bigint, _system_id text, _timeline text)
returns table (epoch bigint, tokens text)
language plpgsql as $$
#variable_conflict use_column
begin
    if _system_id is not null then
        perform sync_require_server(_system_id, _timeline);
    end if;
    return query
        select g.epoch, g.tokens::text from sync_grant g
        where g.node = _name and g.incarnation = _incarnation
        order by g.epoch;
end $$;
