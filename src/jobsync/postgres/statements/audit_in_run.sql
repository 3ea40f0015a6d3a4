-- Record that tasks are done within a run, as far as nobody else has taken the claims over. The locks on the claims make a
-- take-over wait, and it then sees these audits. Gives the items that are recorded; the rest others have taken over.
with given as (
    select i.item, i.incarnation from unnest($2::text[], $3::bigint[]) i (item, incarnation)
), held as (
    select c.item, c.incarnation from sync_claim_in_run c
    where c.run = $5::text and c.item = any ($2::text[])
    order by c.item
    for update
), mine as (
    select g.item from given g
    left join held h on h.item = g.item
    where h.item is null or h.incarnation = g.incarnation
), written as (
    insert into sync_audit_in_run (node, item, date, run)
    select $1::text, mine.item, $4::date, $5::text from mine
    order by mine.item
    on conflict (run, item) do nothing
)
select item from mine
