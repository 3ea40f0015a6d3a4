-- So many ids for jobs that are copied in, as one text.
select string_agg(nextval('sync_job_number')::text, ',') from generate_series(1, $1::integer)
