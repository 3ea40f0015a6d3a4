-- Fix a run's date at its first entry; everybody after gets that date.
with entered as (
    insert into sync_run (run, date) values ($1::text, coalesce($2::date, current_date))
    on conflict (run) do nothing
    returning date
)
select date from entered
union all
select r.date from sync_run r where r.run = $1::text
limit 1
