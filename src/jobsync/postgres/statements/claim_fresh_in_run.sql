-- Claim tasks of a run that nobody has claimed before, as `claim_in_run` does but without looking for a conflict on each:
-- that is half of the work. A few of them ($7) stand for all: if one of those is claimed, nothing is written. A
-- conflict with any other is an error (unique_violation), and nothing is written either. Gives how many were written.
with written as (
    insert into sync_claim_in_run (node, item, date, run, incarnation)
    select $1::text, i.item, $3::date, $6::text, $2::bigint
    from unnest($4::text[], $5::integer[]) i (item, token)
    where (select range_agg(r) from sync_grant g, unnest(g.tokens) r
           where g.node = $1::text and g.incarnation = $2::bigint) @> i.token
      and (select count(*) from unnest($7::text[]) few (item)
           where exists (select from sync_claim_in_run c where c.run = $6::text and c.item = few.item offset 0)) = 0
      and not exists (select from sync_audit_in_run a where a.run = $6::text and a.item = i.item offset 0)
    order by i.item collate "C"  -- two who write the same items in different orders would deadlock
    returning 1
)
select count(*)::integer from written
