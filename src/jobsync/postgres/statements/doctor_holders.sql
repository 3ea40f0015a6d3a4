-- Whoever keeps vacuum from removing dead rows in this database for longer than so many seconds ($1), the oldest first.
select who, round(age)::bigint from (
    select format('session %s of %s (%s, %s)', a.pid, coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), 'unnamed'),
                  coalesce(a.state, 'state hidden')) as who,
           extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.backend_start)) as age
    from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid() and a.xact_start is not null
      and a.backend_type <> 'autovacuum worker'
    union all
    select format('prepared transaction %L of %s', p.gid, p.owner), extract(epoch from clock_timestamp() - p.prepared)
    from pg_prepared_xacts p where p.database = current_database()) holders
where age > $1::float8
order by age desc
limit 10
