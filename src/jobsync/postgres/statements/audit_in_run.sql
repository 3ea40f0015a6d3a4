-- Record that tasks are done within a run, as far as this incarnation still has the claims. The lock on the node's row
-- makes a fence wait, so whoever takes a claim over afterwards sees this audit. Gives the items that were recorded.
with me as (
    select n.incarnation from sync_node n
    where n.name = $1::text and n.incarnation = $2::bigint and n.state <> 'fenced'
    for key share
), mine as (
    select c.item from sync_claim c, me
    where c.run = $5::text and c.item = any ($4::text[]) and c.incarnation = me.incarnation
), written as (
    insert into sync_audit (node, item, date, run)
    select $1::text, mine.item, $3::date, $5::text from mine
    order by mine.item  -- two who write the same items in different orders would deadlock
    on conflict (run, item) where run is not null do nothing
)
select item from mine
