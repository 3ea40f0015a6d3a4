-- The wait is added to the clock of the database, which decides when a job is due.
select sync_job_end_attempt($1::bigint, $2::integer, $3::bigint, $4::text, clock_timestamp() + $5::float8 * interval '1 second',
                            $6::text, $7::jsonb)
