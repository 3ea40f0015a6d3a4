select exists (select from sync_job_gated g where g.lane = any ($1::integer[]))
