-- Store one job that any worker may take at once; null: the kind has no lane. (In the select list: from it costs more.)
select sync_job_enqueue_plain($1::text, $2::text, $3::integer, $4::integer, $5::jsonb)
