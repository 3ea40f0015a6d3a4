-- What this role may not do and a worker must: one row a right that is missing.
select format('%s on table %s', r.right_name, c.relname)
from pg_class c
cross join unnest(case c.relkind when 'v' then '{select}' else '{select,insert,update,delete}' end::text[]) r(right_name)
where c.relkind in ('r', 'p', 'v') and pg_table_is_visible(c.oid) and starts_with(c.relname, $1::text)
  and not c.relispartition and not has_table_privilege(c.oid, r.right_name)
union all
select format('usage on sequence %s', c.relname)
from pg_class c
where c.relkind = 'S' and pg_table_is_visible(c.oid) and starts_with(c.relname, $1::text)
  -- That of an identity column belongs to it: whoever may insert there draws from it.
  and not exists (select from pg_depend d
                  where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'i')
  and case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'usage') end  -- In this order: others are no sequences.
union all
select format('execute on function %s', p.proname)
from pg_proc p
where pg_function_is_visible(p.oid) and starts_with(p.proname, $1::text) and not has_function_privilege(p.oid, 'execute')
order by 1
