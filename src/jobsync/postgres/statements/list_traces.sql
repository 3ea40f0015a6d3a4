-- Everything that bears the fleet's prefix, as statements that drop it, to be run in this order. Relations go first: what
-- belongs to them goes with them.
select 'drop ' || f.kind || ' if exists ' || f.thing || ' cascade'
from (
    select case c.relkind when 'S' then 2 else 1 end as turn, c.oid, c.oid::regclass::text as thing,
           case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind
    from pg_class c where starts_with(c.relname, 'sync_') and c.relkind in ('r', 'p', 'v', 'S') and not c.relispartition
    union all
    select 3, p.oid, p.oid::regprocedure::text, 'routine' from pg_proc p where starts_with(p.proname, 'sync_')) f
order by f.turn, f.oid
