-- Record that tasks of a run are done, of which none is recorded yet and all were claimed, and not let go of, by one
-- registration ($2). Its claims need not be looked at: while it stands nobody takes them over, and the lock on its row lasts
-- until this is committed. Nothing is written where it does not stand. A task that is recorded already is an error
-- (unique_violation), and nothing is written either. Gives how many were written.
with standing as materialized (
    select from sync_node n where n.name = $1::text and n.incarnation = $2::bigint and n.state <> 'fenced' for key share
), written as (
    insert into sync_audit_in_run (node, item, date, run)
    select $1::text, i.item, $3::date, $4::text
    from unnest($5::text[]) i (item)
    where exists (select from standing)
    order by i.item collate "C"  -- two who write the same items in different orders would deadlock
    returning 1
)
select count(*)::integer from written
