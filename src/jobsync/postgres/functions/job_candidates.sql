-- Jobs at the gate that might run, where their limits have room: the best of those without a limit_key, the best of those with
-- one, the best of each limited key, and of each line (affinity) within these tokens the one whose turn it is; of each sort at
-- most _most, so that none hides another. It locks nothing and promises nothing; sync_job_admit decides. What has crashed is
-- looked for only if _suspects.
create or replace function sync_job_candidates(_lanes integer[], _tokens int4multirange, _most integer, _from integer,
                                               _suspects boolean)
returns table (id bigint, priority integer, token integer)
language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    with recursive open as materialized (
        select n.lane, n.kind, m.at_once, m.per_key
        from sync_job_lane n left join sync_job_limit m on m.kind = n.kind
        where n.lane = any (_lanes) and (m.at_once is null or sync_job_has_room('kind', n.kind, m.at_once))),
    sort(crashed) as (select false union all select true where _suspects),
    -- Loose walks over an index: one step a key or line, however many jobs wait in it.
    key(lane, limit_key) as (
        select first.lane, first.limit_key
        from open n
        cross join lateral (
            select w.lane, w.limit_key from sync_job_gated w
            where w.lane = n.lane and w.affinity is null and w.limit_key is not null
            order by w.limit_key limit 1) first
        where n.per_key is not null
        union all
        select next.lane, next.limit_key
        from key
        cross join lateral (
            select w.lane, w.limit_key from sync_job_gated w
            where w.lane = key.lane and w.affinity is null and w.limit_key is not null and w.limit_key > key.limit_key
            order by w.limit_key limit 1) next),
    line(token, affinity) as (
        select first.token, first.affinity
        from (select a.part * r.part as part
              from unnest(_tokens) r(part)
              cross join (values (int4range(_from, null)), (int4range(null, _from))) a(part)
              where not isempty(a.part * r.part)) span
        cross join lateral (
            select w.token, w.affinity from sync_job_gated w
            where w.affinity is not null
              -- An unbounded end as a number, for the index; no token is as great as that.
              and w.token >= coalesce(lower(span.part), 0) and w.token < coalesce(upper(span.part), 2147483647)
            order by w.token, w.affinity limit 1) first
        union
        select next.token, next.affinity
        from line
        cross join lateral (
            select w.token, w.affinity from sync_job_gated w
            where w.affinity is not null and (w.token, w.affinity) > (line.token, line.affinity)
            order by w.token, w.affinity limit 1) next
        where next.token <@ _tokens)
    (select best.id, best.priority, best.token
     from sort
     cross join lateral (
         select g.id, g.priority, g.token
         from open n
         cross join lateral (
             select * from sync_job_gated w
             where w.lane = n.lane and w.affinity is null and w.limit_key is null and (w.crashes > 0) = sort.crashed
             order by w.priority desc, w.id limit least(_most, n.at_once)) g
         order by g.priority desc, g.id
         limit _most) best)
    union all
    -- The best of all keys, and only then the look for room: however many wait for a full key, it is asked for so often only.
    (select best.id, best.priority, best.token
     from sort
     cross join (values (false), (true)) kinds(are_limited)
     cross join lateral (
         select g.id, g.priority, g.token, g.limit_key, n.kind, n.per_key
         from open n
         cross join lateral (
             select * from sync_job_gated w
             where w.lane = n.lane and w.affinity is null and w.limit_key is not null and (w.crashes > 0) = sort.crashed
             order by w.priority desc, w.id limit _most) g
         where (n.per_key is not null) = kinds.are_limited
         order by g.priority desc, g.id
         limit _most) best
     where best.per_key is null or sync_job_has_room('key', sync_job_key_name(best.kind, best.limit_key), best.per_key))
    union all
    -- What waits behind a full key that has very many.
    (select g.id, g.priority, g.token
     from key
     join open n on n.lane = key.lane
     cross join lateral (
         select * from sync_job_gated w
         where w.lane = key.lane and w.affinity is null and w.limit_key is not null and w.limit_key = key.limit_key
           and (w.crashes = 0 or _suspects)
         order by w.priority desc, w.id limit least(n.per_key, _most)) g
     where sync_job_has_room('key', sync_job_key_name(n.kind, key.limit_key), n.per_key)
     limit _most)
    union all
    (select head.id, head.priority, head.token
     from line
     cross join lateral (
         -- Whose place the line's is, whatever stands before it by its number: it has begun. It may run, or be in back-off.
         select * from sync_job_gated w
         where w.affinity is not null
           and w.id = coalesce((select p.id from sync_job_place p
                                where p.scope = 'affinity' and p.name = line.affinity and p.number = 1),
                               (select f.id from sync_job_gated f where f.affinity = line.affinity order by f.id limit 1))) head
     join open n on n.lane = head.lane
     where (head.crashes = 0 or _suspects)
       and (n.per_key is null or head.limit_key is null
            or sync_job_has_room('key', sync_job_key_name(n.kind, head.limit_key), n.per_key))
     limit _most);
end $$;
