-- Dead rows of this fleet's tables, the worst first.
select s.relname::text, s.n_live_tup, s.n_dead_tup
from pg_stat_user_tables s
where starts_with(s.relname, $1::text) and pg_table_is_visible(s.relid)
order by s.n_dead_tup desc
limit 20
