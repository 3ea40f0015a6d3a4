-- Claim tasks of a date that nobody has claimed before, as `claim_by_date` does but without looking for a conflict on each:
-- that is half of the work. A few of them ($6) stand for all: if one of those is claimed, nothing is written. A
-- conflict with any other is an error (unique_violation), and nothing is written either. Gives how many were written.
with written as (
    insert into sync_claim_by_date (node, item, date, incarnation)
    select $1::text, i.item, $3::date, $2::bigint
    from unnest($4::text[], $5::integer[]) i (item, token)
    where (select range_agg(r) from sync_grant g, unnest(g.tokens) r
           where g.node = $1::text and g.incarnation = $2::bigint) @> i.token
      and (select count(*) from unnest($6::text[]) few (item)
           where exists (select from sync_claim_by_date c where c.item = few.item and c.date = $3::date offset 0)) = 0
    order by i.item collate "C"  -- two who write the same items in different orders would deadlock
    returning 1
)
select count(*)::integer from written
