-- jobsync schema, version 1: who is in the fleet, who owns which tokens, what was claimed and done.
--
-- Every object bears the prefix sync_ ; a fleet with another appname gets its own prefix in its place.
-- Ownership in the database needs no clock: a token belongs to the one grant that holds it, and
-- PostgreSQL itself refuses a second one.

-- One row: what the whole cluster must agree on, and how far the leader's plan has come.
create table sync_meta (
    singleton            boolean primary key default true check (singleton),
    schema_version       integer not null,
    total_tokens         integer check (total_tokens > 0),  -- set by the first node to register ...
    hash_function        text,                               -- ... and kept while anybody is alive
    plan_version         bigint  not null default 0,  -- grows with every distribution that moves something
    lock_version         bigint  not null default 0,  -- grows with every change of sync_lock
    planned_lock_version bigint  not null default 0,  -- the lock_version that the plan takes into account
    generation           bigint  not null default 1,  -- grows when the rows are found on another server or timeline
    system_id            text,                        -- the server that the rows belong to ...
    timeline             text,                        -- ... and its timeline: both change at a fail-over
    quarantined          boolean not null default false  -- after a fail-over no token is granted until a whole lease has passed
);

insert into sync_meta (schema_version) values (0);

-- Fencing epochs, incarnations and binds come from one sequence, so no number is ever used twice.
create sequence sync_epoch;

create table sync_node (
    name                  text primary key,
    created_on            timestamptz not null default clock_timestamp(),
    last_heartbeat        timestamptz not null default clock_timestamp(),  -- for people; observers watch beats
    state                 text    not null default 'live' check (state in ('live', 'leaving', 'fenced')),
    incarnation           bigint  not null,            -- one per registration
    bind                  bigint  not null,            -- one per database session of that registration
    rebind_attempt        integer not null default 0,  -- the node's own count of its sessions: a late rebind is told by it
    beats                 bigint  not null default 0,  -- what observers watch: it advances while the node lives
    heartbeat_timeout_ms  integer not null,
    row_lease_ms          integer not null,            -- how long the node trusts its row after a beat was sent
    session_lease_ms      integer,                     -- how long it trusts its session; null behind a pooler
    backend_pid           integer not null,
    backend_start         timestamptz,
    postmaster_start      timestamptz not null,
    applied_version       bigint  not null default 0,  -- the distribution whose tokens the node holds
    delete_requested      boolean not null default false,
    host                  text,
    pid                   integer,
    environment           text,
    takes_tokens          boolean not null default true  -- false: a queue worker, which is dealt none
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- One row a grant, never merged: the epoch of a token that stays does not change.
create table sync_grant (
    epoch       bigint primary key,
    node        text   not null references sync_node (name),  -- a grant never stands without its node
    incarnation bigint not null,
    tokens      int4multirange not null check (not isempty(tokens)),
    assigned_at timestamptz not null default clock_timestamp(),
    constraint sync_grant_exclusive exclude using gist (tokens with &&)
);
create index sync_grant_node on sync_grant (node);

-- What the leader wants; owners follow it by giving up and taking. It grants nothing.
create table sync_target (
    node         text primary key,
    tokens       int4multirange not null,
    plan_version bigint not null,
    takes_tokens boolean not null default true  -- how the plan knows the node: one that came back as the other kind is dealt anew
);

-- The right to lead is granted as token -1, below the pool; people see the pool.
create view sync_token as
select t as token_id, g.node, g.assigned_at, n.applied_version as version, g.epoch
from sync_grant g
join sync_node n on n.name = g.node
cross join lateral unnest(g.tokens - '{[-1,0)}') r
cross join lateral generate_series(lower(r), upper(r) - 1) t;

create table sync_lock (
    task_id       text primary key,
    token_id      integer not null,
    node_patterns jsonb   not null check (jsonb_typeof(node_patterns) = 'array' and node_patterns <> '[]'),
    reason        text,
    created_at    timestamptz not null default clock_timestamp(),
    created_by    text,
    expires_at    timestamptz,
    id            bigint generated always as identity  -- the order of registration
);
create index sync_lock_creator on sync_lock (created_by);

-- Claims and audits lie in three kinds of tables behind one name each, so that a week of them can be thrown away by the day:
--   ..._in_run    what belongs to a run: once a run, whatever the date; deleted row by row
--   ..._YYYYMMDD  one table a day for what has no run, made by whoever first works for that date (sync_make_day)
--   ..._rest      dates far from today, and days for which no table could be made
-- The library names in_run and by_date; people read and delete through sync_claim and sync_audit.
-- Texts that only have to be found again are compared by their bytes, which is what every locale's order costs least.
create table sync_claim (
    node        text   not null,
    item        text   collate "C" not null,
    created_on  timestamptz not null default clock_timestamp(),
    date        date   not null,
    run         text   collate "C",
    incarnation bigint not null
) partition by list ((run is null));
create table sync_claim_in_run partition of sync_claim for values in (false);
create table sync_claim_by_date partition of sync_claim for values in (true) partition by range (date);
create table sync_claim_rest partition of sync_claim_by_date default;
create unique index sync_claim_in_run_item on sync_claim_in_run (run, item);
create unique index sync_claim_by_date_item on sync_claim_by_date (item, date);
create index sync_claim_created_on on sync_claim using brin (created_on);
create index sync_claim_rest_date on sync_claim_rest (date);

create table sync_audit (
    node       text not null,
    item       text collate "C" not null,
    date       date not null,
    created_on timestamptz not null default clock_timestamp(),
    run        text collate "C"
) partition by list ((run is null));
create table sync_audit_in_run partition of sync_audit for values in (false);
create table sync_audit_by_date partition of sync_audit for values in (true) partition by range (date);
create table sync_audit_rest partition of sync_audit_by_date default;
create unique index sync_audit_in_run_item on sync_audit_in_run (run, item);
create unique index sync_audit_by_date_item on sync_audit_by_date (item, date);
create index sync_audit_created_on on sync_audit using brin (created_on);
create index sync_audit_rest_date on sync_audit_rest (date);

-- One row: how long the leader that pruned last keeps what has no run (null: for ever). sync_drop_day goes by it.
create table sync_retention (
    singleton  boolean primary key default true check (singleton),
    claim_days double precision,
    audit_days double precision
);

-- A named batch: its date is fixed at its first entry.
create table sync_run (
    run        text collate "C" primary key,
    date       date not null,
    created_on timestamptz not null default clock_timestamp()
);

create table sync_rebalance (
    id             bigint generated always as identity primary key,
    triggered_at   timestamptz not null default clock_timestamp(),
    trigger_reason text    not null,
    leader_node    text    not null,
    nodes_before   integer not null,
    nodes_after    integer not null,
    tokens_moved   integer not null,
    duration_ms    integer not null,
    moves          jsonb   not null,
    plan_version   bigint  not null
);
create index sync_rebalance_triggered_at on sync_rebalance (triggered_at);
