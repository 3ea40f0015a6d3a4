-- How many of the next _want ready jobs each lane has. It locks nothing: who takes them may find fewer.
create or replace function sync_job_shares(_lanes integer[], _want integer) returns table (lane integer, share integer)
language plpgsql as $$
#variable_conflict use_column
begin
    if cardinality(_lanes) = 1 then
        return query select _lanes[1], _want;
        return;
    end if;
    return query
        select best.lane, count(*)::integer
        from (select next.lane
              from unnest(_lanes) l(lane)
              cross join lateral (
                  select r.lane, r.priority, r.id from sync_job_ready r where r.lane = l.lane
                  order by r.priority desc, r.id limit _want) next
              order by next.priority desc, next.id
              limit _want) best
        group by best.lane;
end $$;
