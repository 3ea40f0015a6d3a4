-- Programs of version 4 and older enqueued without a trace.
drop function if exists sync_job_enqueue(integer[], integer[], integer[], timestamptz[], text[], text[], text[], jsonb[], timestamptz);
