-- Since when tokens are on their way: when each of the latest $3 distributions took some of them from the node that still holds
-- them, newest first; of those that nobody holds, first of all, when they lost their owner. $1 are the holders (null: nobody) and
-- $2, beside them, their tokens; `number` is the place in these. The first row has none: so far back distributions were looked at.
with moving as (
    select m.number, m.holder, m.tokens::int4multirange as tokens
    from unnest($1::text[], $2::text[]) with ordinality m (holder, tokens, number)
), latest as (
    select b.id, b.triggered_at, e.move ->> 'from' as holder, e.move ->> 'tokens' as tokens
    from (select r.id, r.triggered_at, r.moves from sync_rebalance r order by r.id desc limit $3::integer) b
    cross join lateral jsonb_array_elements(b.moves) e (move)
), told as (
    select m.number, null::bigint as id, h.uncovered_at as since, h.tokens * m.tokens as tokens
    from moving m
    join sync_handover h on m.holder is null and h.granted_at is null and h.uncovered_at is not null and h.tokens && m.tokens
    union all
    select m.number, l.id, l.triggered_at, l.tokens::int4multirange * m.tokens
    from moving m
    join latest l on coalesce(l.holder, '') = coalesce(m.holder, '') and l.tokens::int4multirange && m.tokens
    union all
    select null, null, (select min(l.triggered_at) from latest l), null
)
select t.number, t.since, t.tokens::text from told t order by t.number nulls first, t.id desc nulls first
