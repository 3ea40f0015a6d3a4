-- Claim tasks of a run that nobody has claimed before, as `claim_in_run` does but without looking for a conflict on each:
-- that is half of the work. Where any of them is done, nothing is written; a few of them (_few) stand for all, and if one of
-- those is claimed, nothing is written either. A conflict with any other is an error (unique_violation), which writes nothing.
-- Tasks whose token the node does not hold are passed over. Gives how many were written.
-- A function of its own for the sake of its planner settings: from statistics that lag behind a growing table the planner
-- would read the whole of it once a batch, where one scan of the index finds all of the batch.
create or replace function sync_claim_fresh_in_run(
    _node text, _incarnation bigint, _date date, _items text[], _tokens integer[], _run text, _few text[])
returns integer
language plpgsql
set enable_seqscan = off
as $$
declare
    held int4multirange;
    written integer;
begin
    if exists (select from sync_audit_in_run a where a.run = _run and a.item = any (_items))
       or exists (select from sync_claim_in_run c where c.run = _run and c.item = any (_few)) then
        return 0;
    end if;
    held := (select range_agg(r) from sync_grant g, unnest(g.tokens) r
             where g.node = _node and g.incarnation = _incarnation);
    insert into sync_claim_in_run (node, item, date, run, incarnation)
    select _node, i.item, _date, _run, _incarnation
    from unnest(_items, _tokens) i (item, token)
    where held @> i.token
    order by i.item collate "C";  -- two who write the same items in different orders would deadlock
    get diagnostics written = row_count;
    return written;
end $$;
