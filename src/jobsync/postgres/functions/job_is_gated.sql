-- Whether a job is taken one by one. (A kind's limit is looked up where jobs are taken: it may come after the job.)
create or replace function sync_job_is_gated(_body sync_job_body, _attempts integer, _crashes integer) returns boolean
language sql immutable as $$
    select _body.affinity is not null or _body.limit_key is not null or _crashes > 0 or _attempts + 1 >= _body.max_attempts
$$;
