-- Jobs at the gate that might run: of each line (affinity) within these tokens the first, and of the rest the best; each at
-- most _most. It locks nothing and promises nothing; sync_job_admit decides.
create or replace function sync_job_candidates(_lanes integer[], _tokens int4multirange, _most integer, _from integer)
returns table (id bigint, lane integer, priority integer, attempts smallint, crashes smallint, token integer)
language sql stable as $$
    (select g.id, g.lane, g.priority, g.attempts, g.crashes, g.token
     from unnest(_lanes) n(lane)
     cross join lateral (
         select * from sync_job_gated w where w.lane = n.lane and w.affinity is null
         order by w.priority desc, w.id limit _most) g
     order by g.priority desc, g.id
     limit _most)
    union all
    -- A loose walk over the index: one step a line, however many jobs wait in it.
    (with recursive line(token, affinity) as (
         select first.token, first.affinity
         from (select a.part * r.part as part
               from unnest(_tokens) r(part)
               cross join (values (int4range(_from, null)), (int4range(null, _from))) a(part)
               where not isempty(a.part * r.part)) span
         cross join lateral (
             select w.token, w.affinity from sync_job_gated w
             where w.affinity is not null
               and (lower(span.part) is null or w.token >= lower(span.part))
               and (upper(span.part) is null or w.token < upper(span.part))
             order by w.token, w.affinity limit 1) first
         union
         select next.token, next.affinity
         from line
         cross join lateral (
             select w.token, w.affinity from sync_job_gated w
             where w.affinity is not null and (w.token, w.affinity) > (line.token, line.affinity)
             order by w.token, w.affinity limit 1) next
         where next.token <@ _tokens)
     select head.id, head.lane, head.priority, head.attempts, head.crashes, head.token
     from line
     cross join lateral (
         select * from sync_job_gated w where w.affinity = line.affinity order by w.id limit 1) head
     where head.lane = any (_lanes)
       and not exists (select from sync_job_place p
                       where p.scope = 'affinity' and p.name = line.affinity and p.id <> head.id)
     limit _most)
$$;
