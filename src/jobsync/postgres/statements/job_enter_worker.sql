insert into sync_job_worker (incarnation, worker, node, queues, kinds) values ($1, $2, $3, $4::jsonb, $5::jsonb)
on conflict (incarnation, worker) do update set node = excluded.node, queues = excluded.queues, kinds = excluded.kinds
