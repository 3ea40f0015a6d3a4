-- jobsync schema, version 2: the leased queue.
--
-- A job is one row of sync_job, a view for people. What it shows lies in narrow tables, each written once and
-- left: a job that is enqueued, taken and done costs two inserts, one delete and one insert, and no update.
--
--   sync_job_body    what was asked; never changed by running
--   sync_job_ready   due now, and any worker that knows the kind may take it, many at a time
--   sync_job_gated   due now, and taken one by one: it has an affinity or a limit, it crashed, or it is its last attempt
--   sync_job_later   not due yet: delayed, or in back-off after a failure
--   sync_job_lease   taken: one row for each batch that a worker took, under one epoch
--   sync_job_end     how it ended; one row a job, by a unique constraint
--
-- A job whose body stands is in exactly one of ready, gated, later, a lease's list, and end. The one exception:
-- a lease still lists what ended under it until the whole batch is over, so an end outranks a lease.
--
-- Texts that only have to be found again are compared by their bytes, which is what every locale's order costs least.

create sequence sync_job_number;

-- A kind of job in a queue, by a short number: what ready jobs are found by.
create table sync_job_lane (
    lane  integer generated always as identity primary key,
    queue text collate "C" not null,
    kind  text collate "C" not null,
    unique (queue, kind)
);

-- What checks there are stand in sync_job_enqueue and sync_job_change: each CHECK here would cost a single enqueue two percent.
-- Six hundred characters of any script fit into a page of an index.
create table sync_job_body (
    id           bigint primary key default nextval('sync_job_number'),
    lane         integer  not null,                      -- of sync_job_lane; a foreign key would cost a fifth of the speed
    priority     integer  not null default 0,            -- higher first
    max_attempts integer  not null default 3,            -- at most 32,000: attempts are counted in smallints
    created_at   timestamptz not null default clock_timestamp(),
    run_at       timestamptz,                            -- as asked at first; null: at once
    -- What is too long for an index is refused here, and not by whoever moves the job later.
    job_id       varchar(600) collate "C",               -- the caller's own key: one job while this row stands
    affinity     varchar(600) collate "C",
    limit_key    varchar(600) collate "C",
    payload      jsonb    not null
);
create unique index sync_job_body_job_id on sync_job_body (job_id) where job_id is not null;

create table sync_job_ready (
    id       bigint   not null,
    lane     integer  not null,
    priority integer  not null,
    attempts smallint not null default 0,
    crashes  smallint not null default 0
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create unique index sync_job_ready_next on sync_job_ready (lane, priority desc, id);

create table sync_job_gated (
    id        bigint   primary key,
    lane      integer  not null,
    priority  integer  not null,
    attempts  smallint not null default 0,
    crashes   smallint not null default 0,
    token     integer,                                   -- of the affinity, by the fleet's hash function; 0 until there is a fleet
    affinity  text collate "C",
    limit_key text collate "C"
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index sync_job_gated_next on sync_job_gated (lane, (crashes > 0), priority desc, id)
    where affinity is null and limit_key is null;
create index sync_job_gated_keyed on sync_job_gated (lane, (crashes > 0), priority desc, id)
    where affinity is null and limit_key is not null;
create index sync_job_gated_key on sync_job_gated (lane, limit_key, priority desc, id) where affinity is null and limit_key is not null;
create index sync_job_gated_line on sync_job_gated (affinity, id) where affinity is not null;
create index sync_job_gated_token on sync_job_gated (token, affinity) where affinity is not null;

create table sync_job_later (
    id       bigint   primary key,
    run_at   timestamptz not null,
    attempts smallint not null default 0,
    crashes  smallint not null default 0
);
create index sync_job_later_next on sync_job_later (run_at);

-- Epochs come from the sequence of all fencing numbers: one never names two attempts, nor an attempt and a grant.
create table sync_job_lease (
    epoch        bigint primary key default nextval('sync_epoch'),
    worker       text   not null,                        -- locked_by
    incarnation  bigint not null,                        -- of the node whose death ends the lease at once
    taken_at     timestamptz not null default clock_timestamp(),
    locked_until timestamptz not null,
    max_crashes  integer,                                -- that make a job failed; null: fetched ahead, and perhaps not begun
    ids          bigint[]   not null,                    -- three columns of one list; 0 where a job was given back
    attempts     smallint[] not null,                    -- this attempt included
    crashes      smallint[] not null,
    check (cardinality(ids) <= 500 and cardinality(ids) = cardinality(attempts) and cardinality(ids) = cardinality(crashes))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
-- Five hundred fit into one page: looking up one of them by its place reads no second table and unpacks nothing.
alter table sync_job_lease alter column ids set storage plain, alter column attempts set storage plain,
    alter column crashes set storage plain;

create table sync_job_end (
    id          bigint primary key,
    epoch       bigint,                                  -- of the attempt that ended it; null: none did
    started_at  timestamptz,
    finished_at timestamptz not null default clock_timestamp(),
    attempts    smallint not null,
    crashes     smallint not null,
    status      text     not null check (status in ('done', 'failed', 'cancelled')),
    result      jsonb
);
create index sync_job_end_finished_at on sync_job_end using brin (finished_at) with (pages_per_range = 16, autosummarize = on);
create index sync_job_end_undone on sync_job_end (finished_at) where status <> 'done';

-- An attempt that failed or crashed: the evidence.
create table sync_job_error (
    id       bigint   not null,
    attempt  smallint not null,                          -- which one, counted from 1
    epoch    bigint   not null,
    worker   text     not null,
    at       timestamptz not null default clock_timestamp(),
    crashed  boolean  not null,                          -- its lease was lost
    error    text     not null
);
create index sync_job_error_id on sync_job_error (id);

create table sync_job_progress (
    id       bigint   primary key,
    progress smallint not null check (progress between 0 and 100),
    message  text,
    at       timestamptz not null default clock_timestamp()
);

-- At most so many jobs of a kind run at once; at most so many of a kind and a limit_key.
create table sync_job_limit (
    kind    text collate "C" primary key,
    at_once integer check (at_once > 0),
    per_key integer check (per_key > 0)
);

-- Who runs within a limit: a place, by number. The primary key is the limit: no count is trusted.
--   affinity has one place a key; a job whose attempt was charged (it is in back-off, or crashed) keeps it
create table sync_job_place (
    scope  text    collate "C" not null,                 -- 'affinity', 'kind' or 'key'
    name   text    collate "C" not null,                 -- the affinity; the kind; the kind, a tab and the limit_key
    number integer not null,
    id     bigint  not null,
    primary key (scope, name, number)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index sync_job_place_id on sync_job_place (id);

-- Queues that are paused; a queue without a row runs.
create table sync_job_pause (
    queue     text collate "C" primary key,
    paused_at timestamptz not null default clock_timestamp(),
    paused_by text
);

-- The workers that live, and what they know: so that a kind that nobody knows can be told.
create table sync_job_worker (
    incarnation bigint not null,
    worker      text   not null,
    node        text   not null,
    queues      jsonb  not null,
    kinds       jsonb  not null,                         -- null within: every kind
    started_at  timestamptz not null default clock_timestamp(),
    primary key (incarnation, worker)
);

create table sync_job_periodic (
    name       text primary key,
    schedule   text not null,                            -- a cron expression
    timezone   text not null,
    queue      text not null,
    kind       text not null,
    payload    jsonb not null,
    priority   integer not null default 0,
    last_due   timestamptz not null default clock_timestamp(),  -- enqueued up to here, once each
    last_id    bigint
);

-- One row a job, for people. What an UPDATE, DELETE or INSERT here does is in sync_job_change.
--   attempt    the epoch of the attempt that runs, or that ended the job: what the functions of an attempt ask for
create view sync_job as
select s.id, s.job_id, n.queue, n.kind, s.payload, s.status, s.priority,
       case when s.status = 'done' then 100 else coalesce(p.progress, 0) end as progress, p.message as progress_message,
       s.attempts::integer as attempts, s.crashes::integer as crashes, s.max_attempts, s.locked_by, s.locked_until,
       coalesce(s.due_at, s.run_at, s.created_at) as run_at,
       (select e.error from sync_job_error e where e.id = s.id order by e.at desc, e.attempt desc limit 1) as last_error,
       s.result, s.affinity, s.created_at, greatest(s.created_at, s.since, p.at) as updated_at, s.finished_at,
       s.epoch as attempt, s.limit_key
-- Each part has its own join to the bodies, so that what is asked of an id, a job_id or a status is found by an index.
from (
    select b.*, case when r.attempts = 0 then 'pending' else 'retry' end as status, r.attempts, r.crashes, null as locked_by,
           null::timestamptz as locked_until, null::timestamptz as due_at, null::jsonb as result,
           null::timestamptz as since, null::timestamptz as finished_at, null::bigint as epoch
    from sync_job_ready r join sync_job_body b on (b.lane, b.priority, b.id) = (r.lane, r.priority, r.id)
    union all
    select b.*, case when g.attempts = 0 then 'pending' else 'retry' end, g.attempts, g.crashes, null, null, null, null, null, null, null
    from sync_job_gated g join sync_job_body b on b.id = g.id
    union all
    select b.*, case when t.attempts = 0 then 'pending' else 'retry' end, t.attempts, t.crashes, null, null, t.run_at, null, null, null, null
    from sync_job_later t join sync_job_body b on b.id = t.id
    union all
    select b.*, 'processing', u.attempts, u.crashes, l.worker, l.locked_until, null, null, l.taken_at, null, l.epoch
    from sync_job_lease l
    cross join lateral unnest(l.ids, l.attempts, l.crashes) u(id, attempts, crashes)
    join sync_job_body b on b.id = u.id
    where u.id <> 0 and not exists (select from sync_job_end f where f.id = u.id)
    union all
    select b.*, f.status, f.attempts, f.crashes, null, null, null, f.result, f.finished_at, f.finished_at, f.epoch
    from sync_job_end f join sync_job_body b on b.id = f.id
) s
join sync_job_lane n on n.lane = s.lane
left join sync_job_progress p on p.id = s.id;
