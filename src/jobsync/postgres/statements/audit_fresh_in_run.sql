-- As `audit_in_run`, for tasks of which none is recorded yet: without looking for a conflict on each, which is half the
-- work. Where one is recorded that is an error (unique_violation), and nothing is written.
-- Record that tasks are done within a run, as far as nobody else has taken the claims over. The locks on the claims make a
-- take-over wait, and it then sees these audits. Gives the items that are recorded; the rest others have taken over.
-- Every look-up by item is a probe of its own (offset 0 keeps it so): from statistics that lag behind a growing table
-- the planner would read the whole run once a batch, or once a row.
with mine as materialized (
    select g.item
    from (select i.item, i.incarnation from unnest($2::text[], $3::bigint[]) i (item, incarnation)
          order by i.item collate "C") g
    left join lateral (select c.incarnation from sync_claim_in_run c
                       where c.run = $5::text and c.item = g.item offset 0 for update) held on true
    where held.incarnation is null or held.incarnation = g.incarnation
), written as (
    insert into sync_audit_in_run (node, item, date, run)
    select $1::text, mine.item, $4::date, $5::text from mine
)
select item from mine
