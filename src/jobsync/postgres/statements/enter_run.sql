-- Fix a run's date at its first entry; everybody after gets that date. Who comes second waits for the first and is answered
-- too: the update changes nothing, and is what makes a row that stands already be given back.
insert into sync_run as r (run, date) values ($1::text, coalesce($2::date, current_date))
on conflict (run) do update set date = r.date
returning r.date
