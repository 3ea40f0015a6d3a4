-- jobsync: the queries that operators need, by subject. Every one runs as it stands, on PostgreSQL 14 to 18.
--
-- A fleet with another prefix than sync_ (appname) has its own in its place. The names worker-01, worker-02, worker-09
-- and the run nightly-2026-11-22 are examples. Reading never disturbs the fleet, and any DELETE on these tables is safe
-- while workers run, but for those behind sync_job. sync_token is a view; the table behind it is sync_grant.
--
-- === Nodes ===

-- name: active-nodes
-- Who is at work, oldest first, and how long ago each was heard of. The first one leads.
select name, created_on, last_heartbeat, now() - last_heartbeat as lag
from sync_node
where last_heartbeat > now() - interval '15 seconds'
order by created_on;

-- name: active-node-count
-- How many. Compare it with how many you started. Fleets with another heartbeat_timeout_sec put theirs for the 15.
select count(*) as active_nodes
from sync_node
where last_heartbeat > now() - interval '15 seconds';

-- name: leader
-- Who leads: the oldest active node. It writes the plan; losing it costs nobody a token.
select name as leader
from sync_node
where last_heartbeat > now() - interval '15 seconds'
order by created_on
limit 1;

-- name: all-nodes
-- Everybody whom the table knows. state: live, leaving (handing over), fenced (gone, its tokens were taken).
select name, state, created_on, last_heartbeat, host, pid, environment,
       session_lease_ms is not null as fast_detection
from sync_node
order by created_on;

-- name: silent-nodes
-- Nodes whose heartbeat is older than 10 seconds and whom nobody has fenced yet: an alert.
select name, host, pid, now() - last_heartbeat as lag
from sync_node
where state <> 'fenced' and last_heartbeat < now() - interval '10 seconds'
order by last_heartbeat;

-- name: dead-nodes
-- Nodes that died. Their rows stay for dead_node_retention_days, for you to see; they hold nothing.
select name, created_on, last_heartbeat, host, pid
from sync_node
where state = 'fenced'
order by last_heartbeat desc;

-- name: nodes-behind-the-plan
-- Nodes that have not applied the latest distribution. For a second or two this is a hand-over; for longer, a callback
-- or a task body holds it up (handover_timeout_sec bounds it).
select n.name, n.applied_version, m.plan_version
from sync_node n cross join sync_meta m
where n.state = 'live' and n.applied_version < m.plan_version
order by n.name;

-- name: fleet-settings
-- What the whole fleet agrees on, and how far the plan has come. quarantined: the database was replaced a moment ago.
select total_tokens, hash_function, plan_version, lock_version, generation, quarantined, schema_version
from sync_meta;

-- name: uncovered
-- How long tokens were without an owner, the longest first: from when the old owner ceased to believe in them, or was last
-- seen alive (fence_rule says by which rule it was fenced), until the new one was granted them. No granted_at: still so.
select from_node, to_node, tokens, fence_rule, uncovered_at, coalesce(granted_at, clock_timestamp()) - uncovered_at as uncovered_for
from sync_handover
where uncovered_at > now() - interval '1 day'
order by uncovered_for desc
limit 50;

-- name: steering
-- What people ask of nodes and of the fleet now (cordon, drain, freeze), who asked, and when it ends by itself; node is
-- null where the whole fleet is meant. `jobsync resume` ends it.
select verb, node, reason, asked_by, asked_at, ends_at
from sync_steering
where ended_at is null
order by id;

-- name: steering-of-the-past
-- What was asked before, who ended it, and how long it was in force.
select verb, node, asked_by, asked_at, ended_by, ended_at - asked_at as lasted
from sync_steering
where ended_at is not null
order by ended_at desc
limit 50;

-- === Tokens ===

-- name: token-distribution
-- Tokens a node, and its share in per cent.
select node, count(*) as tokens,
       round(100.0 * count(*) / sum(count(*)) over (), 1) as pct
from sync_token
group by node
order by tokens desc;

-- name: token-distribution-details
-- The same with the range and the number of the distribution that the node has applied: one row a node.
select node, count(*) as token_count,
       round(100.0 * count(*) / sum(count(*)) over (), 1) as pct,
       min(token_id) as min_token, max(token_id) as max_token, version
from sync_token
group by node, version
order by token_count desc;

-- name: token-balance
-- How even the distribution is. Without pins max_imbalance is 0 or 1.
with held as (select node, count(*) as token_count from sync_token group by node)
select max(token_count) - min(token_count) as max_imbalance,
       avg(token_count) as avg_tokens,
       stddev(token_count) as stddev_tokens
from held;

-- name: uneven-nodes
-- Nodes with less than a tenth or more than half of all tokens: an alert in fleets of 3 to 9 nodes without pins.
select node, round(100.0 * count(*) / sum(count(*)) over (), 1) as pct
from sync_token
group by node
having count(*) < 0.1 * (select total_tokens from sync_meta)
    or count(*) > 0.5 * (select total_tokens from sync_meta)
order by pct desc;

-- name: tokens-of-a-node
-- Has this node anything?
select count(*) as tokens from sync_token where node = 'worker-01';

-- name: unowned-tokens
-- Tokens that nobody holds. Not 0 for more than a few seconds: an alert, work is waiting.
select m.total_tokens - (select count(*) from sync_token) as unowned
from sync_meta m;

-- name: token-ranges
-- Who holds which ranges, with the fencing epoch of each grant. Quicker than sync_token on a million tokens.
-- What is granted below token 0 is the right to lead, and no part of the pool.
select g.node, lower(r) as first_token, upper(r) - 1 as last_token, g.epoch, g.assigned_at
from sync_grant g cross join lateral unnest(g.tokens - '{[-1,0)}') r
order by first_token;

-- name: tokens-on-their-way
-- What each node is to have by the plan and has not yet, and what it has and is to give up. Rows that stay for longer than
-- handover_timeout_sec: see who-holds-up-a-hand-over.
with held as (select node, range_agg(r) as tokens from sync_grant, unnest(tokens) r group by node)
select coalesce(t.node, h.node) as node, t.tokens - coalesce(h.tokens, '{}') as to_come,
       h.tokens - coalesce(t.tokens, '{}') as to_go
from sync_target t full join held h on h.node = t.node
where coalesce(t.tokens, '{}') <> coalesce(h.tokens, '{}')
order by 1;

-- name: owner-of-a-task
-- Which node works on this task now, and under which epoch?
select t.node, t.token_id, t.epoch, t.assigned_at
from sync_meta m
join sync_token t on t.token_id = sync_token_of('invoice-4711', m.hash_function, m.total_tokens);

-- === Locks (pins) ===

-- name: locks
-- Every lock, in the order of registration. node_patterns is a JSON array, tried from left to right.
select task_id, token_id, node_patterns::text as patterns, reason, created_by, created_at, expires_at
from sync_lock
order by created_at, id;

-- name: lock-summary
-- Locks by pattern and reason, with their state.
select node_patterns::text as patterns, count(*) as locked_token_count, reason, expires_at,
       case when expires_at is null then 'never'
            when expires_at < now() then 'EXPIRED'
            else 'active' end as status,
       string_agg(distinct created_by, ',') as registered_by
from sync_lock
group by node_patterns, reason, expires_at
order by locked_token_count desc;

-- name: locks-with-owners
-- Where the pinned tasks are now.
select l.token_id, l.task_id, l.node_patterns::text as patterns, t.node as actual_node, l.reason, l.created_by, l.created_at
from sync_lock l
join sync_token t on t.token_id = l.token_id
order by l.token_id;

-- name: locks-matching-nobody
-- Locks none of whose patterns matches a live node: their tasks count as unpinned, and the leader's log warns.
select l.task_id, l.node_patterns::text as patterns, l.reason
from sync_lock l
where (l.expires_at is null or l.expires_at > now())
  and not exists (select from sync_node n, jsonb_array_elements_text(l.node_patterns) p
                  where n.state = 'live' and n.name like p)
order by l.task_id;

-- name: locks-on-their-second-choice
-- Locks that are served by a later pattern than the first: the preferred node is away.
select l.task_id, t.node as actual_node, p.position, p.pattern
from sync_lock l
join sync_token t on t.token_id = l.token_id
cross join lateral (select pattern, position
                    from jsonb_array_elements_text(l.node_patterns) with ordinality u (pattern, position)
                    where t.node like pattern order by position limit 1) p
where p.position > 1
order by l.task_id;

-- name: orphaned-locks
-- Locks whose creator has no row: it left gracefully, or died and its row was swept. To look at, not to delete blindly:
-- a permanent lock is meant to outlive the node that registered it.
select l.task_id, l.node_patterns::text as patterns, l.reason, l.created_by, l.created_at, l.expires_at
from sync_lock l
left join sync_node n on n.name = l.created_by
where n.name is null
order by l.created_by, l.task_id;

-- name: delete-orphaned-temporary-locks
-- Of these, delete only those that were registered for a time; the permanent locks of nodes that left are spared.
delete from sync_lock l
where l.expires_at is not null
  and not exists (select from sync_node n where n.name = l.created_by);

-- name: delete-locks-of-a-node
-- A node was taken out of service for good: its locks go, permanent ones included. Compare with: worker-09 left.
delete from sync_lock where created_by = 'worker-09';

-- name: delete-expired-locks
-- Expired locks bind nothing. They are swept in any case.
delete from sync_lock where expires_at < now();

-- === Work ===

-- name: claims-today
-- Tasks claimed today, by node.
select node, count(*) as task_count, min(created_on) as first_claim, max(created_on) as last_claim
from sync_claim
where created_on >= current_date
group by node
order by task_count desc;

-- name: claims-by-node
-- All claims that are kept, by node: how a batch was spread.
select node, count(*) as claims from sync_claim group by node order by claims desc;

-- name: completion-today
-- Claimed and done today, and the difference.
with claimed as (
    select count(distinct item) as claimed_count from sync_claim where created_on >= current_date
), audited as (
    select count(distinct item) as audited_count from sync_audit where date = current_date
)
select c.claimed_count, a.audited_count, c.claimed_count - a.audited_count as incomplete_count,
       round(100.0 * a.audited_count / nullif(c.claimed_count, 0), 1) as completion_pct
from claimed c, audited a;

-- name: runs
-- The latest runs, each with what was claimed and what is done.
select r.run, r.date, r.created_on,
       (select count(*) from sync_claim c where c.run = r.run) as claimed,
       (select count(*) from sync_audit a where a.run = r.run) as done
from sync_run r
order by r.created_on desc
limit 20;

-- name: in-hand
-- What is being worked on in a run: claimed by somebody who is live, not done yet. Oldest first.
select c.item, c.node, now() - c.created_on as age
from sync_claim c
join sync_node n on n.incarnation = c.incarnation and n.state <> 'fenced'
where c.run = 'nightly-2026-11-22'
  and not exists (select from sync_audit a where a.run = c.run and a.item = c.item)
order by c.created_on;

-- name: incomplete-tasks
-- Claimed over 5 minutes ago by an incarnation that is gone, and never done. In a run the others take them by themselves.
select c.item, c.node, c.run, c.date, c.created_on
from sync_claim c
where c.created_on < now() - interval '5 minutes'
  and not exists (select from sync_node n where n.incarnation = c.incarnation and n.state <> 'fenced')
  and not exists (select from sync_audit a
                  where a.item = c.item
                    and (a.run = c.run or (a.run is null and c.run is null and a.date = c.date)))
order by c.created_on;

-- name: throughput
-- Tasks done a minute, by node, in the last hour.
select node, date_trunc('minute', created_on) as minute, count(*) as done
from sync_audit
where created_on > now() - interval '1 hour'
group by node, minute
order by minute desc, node;

-- name: who-did-it
-- Who did this task, and when?
select node, date, run, created_on from sync_audit where item = 'invoice-1' order by created_on;

-- === Queue ===
--
-- sync_job is a view of one row a job, for reading and for what an operator does by hand; the tables behind it (sync_job_...)
-- are for reading alone: a row deleted there is a job lost.

-- name: job-counts
-- How many jobs there are in each status, by queue and kind.
select queue, kind, status, count(*) as jobs
from sync_job
group by queue, kind, status
order by queue, kind, status;

-- name: newest-jobs
-- The jobs that were enqueued last. The view cannot be read in that order without reading all of it, which takes seconds where
-- millions have ended; so the numbers first, which grow with time, and each of these by the view. `offset 0` keeps it so.
select j.id, j.queue, j.kind, j.status, j.attempts, j.created_at
from (select b.id from sync_job_body b order by b.id desc limit 20) newest
cross join lateral (select * from sync_job v where v.id = newest.id offset 0) j
order by j.id desc;

-- name: oldest-waiting-jobs
-- What waits longest although it is due: nobody knows the kind, the queue is paused, a limit or a line holds it up, or there
-- are too few workers.
select id, queue, kind, status, affinity, limit_key, now() - run_at as waits_for
from sync_job
where status in ('pending', 'retry') and run_at <= now()
order by run_at
limit 20;

-- name: delayed-jobs
-- What is to run later: delayed from the beginning (pending), or in back-off after a failure (retry).
select id, queue, kind, status, run_at - now() as due_in, attempts, last_error
from sync_job
where status in ('pending', 'retry') and run_at > now()
order by run_at
limit 20;

-- name: locked-jobs
-- What runs under a lease that holds, and who runs it.
select id, queue, kind, locked_by, locked_until, attempts, progress, progress_message
from sync_job
where locked_until > now()
order by locked_by, id;

-- name: stuck-jobs
-- What runs under a lease that has run out. Any worker's sweep takes it back within seconds: a row that stays means that no
-- worker lives.
select id, queue, kind, locked_by, now() - locked_until as ran_out_ago
from sync_job
where status = 'processing' and locked_until < now()
order by locked_until;

-- name: failed-jobs
-- What failed for good, newest first, with the last error.
select id, job_id, queue, kind, attempts, crashes, finished_at, left(last_error, 200) as last_error
from sync_job
where status = 'failed'
order by finished_at desc
limit 20;

-- name: errors-of-a-job
-- Every attempt of one job that failed or crashed.
select attempt, at, worker, crashed, error from sync_job_error where id = 5 order by at;

-- name: commonest-errors
-- The last lines of the errors of an hour, commonest first.
select n.queue, n.kind, e.crashed, substring(rtrim(e.error, E'\n') from '[^\n]*$') as last_line, count(*) as times
from sync_job_error e
join sync_job_body b on b.id = e.id
join sync_job_lane n on n.lane = b.lane
where e.at > now() - interval '1 hour'
group by n.queue, n.kind, e.crashed, last_line
order by times desc
limit 20;

-- name: job-throughput
-- What ended, by hour and kind, in the last day. from_start: from the beginning of the attempt to its end, on average.
select date_trunc('hour', e.finished_at) as hour, n.queue, n.kind, e.status, count(*) as jobs,
       avg(e.finished_at - e.started_at) as from_start
from sync_job_end e
join sync_job_body b on b.id = e.id
join sync_job_lane n on n.lane = b.lane
where e.finished_at > now() - interval '1 day'
group by hour, n.queue, n.kind, e.status
order by hour desc, n.queue, n.kind, e.status;

-- name: job-workers
-- The workers that live, and how many jobs each has in hand.
select w.worker, w.node, w.queues, w.kinds, w.started_at,
       (select count(*) from sync_job j where j.locked_by = w.worker) as jobs
from sync_job_worker w
join sync_node n on n.incarnation = w.incarnation and n.state <> 'fenced'
order by w.worker;

-- name: kinds-nobody-knows
-- Kinds that wait in a queue for which no live worker knows them: nothing will run these.
select j.queue, j.kind, count(*) as jobs, min(j.created_at) as oldest
from sync_job j
where j.status in ('pending', 'retry')
  and not exists (select from sync_job_worker w
                  join sync_node n on n.incarnation = w.incarnation and n.state <> 'fenced'
                  where w.queues ? j.queue and (w.kinds = 'null' or w.kinds ? j.kind))
group by j.queue, j.kind
order by jobs desc;

-- name: affinity-lines
-- The lines in which jobs wait, longest first, and whom they wait for: the job that runs, or that waits for its next attempt.
select g.affinity, count(*) as waiting, min(g.token) as token, p.id as held_by, j.status, j.locked_by, j.run_at
from sync_job_gated g
left join sync_job_place p on p.scope = 'affinity' and p.name = g.affinity
left join sync_job j on j.id = p.id
where g.affinity is not null
group by g.affinity, p.id, j.status, j.locked_by, j.run_at
order by waiting desc
limit 20;

-- name: job-limits
-- The limits, and how many places of each are taken.
select m.kind, m.at_once, m.per_key,
       (select count(*) from sync_job_place p where p.scope = 'kind' and p.name = m.kind) as running
from sync_job_limit m
order by m.kind;

-- name: paused-queues
-- The queues that stand still, since when, and by whom.
select queue, paused_at, paused_by from sync_job_pause order by queue;

-- name: periodic-jobs
-- What is enqueued by the clock, the last due time that was, and what became of it.
select c.name, c.schedule, c.timezone, c.queue, c.kind, c.last_due, j.status as last_status
from sync_job_periodic c
left join sync_job j on j.id = c.last_id
order by c.name;

-- name: run-failed-jobs-again
-- From the first attempt, at once.
update sync_job set status = 'retry' where status = 'failed' and finished_at > now() - interval '1 day';

-- name: take-back-expired-jobs
-- By hand, what every worker's sweep does: no crash is counted, the attempt is not charged, a late result is refused.
update sync_job set status = 'retry' where status = 'processing' and locked_until < now();

-- name: cancel-waiting-jobs
-- What was taken in the very instant is passed over.
update sync_job set status = 'cancelled' where status in ('pending', 'retry') and queue = 'nightly' and kind = 'report';

-- name: hurry-a-job
update sync_job set priority = 100 where id = 5 and status in ('pending', 'retry');

-- name: delete-old-jobs
-- Workers prune by themselves (job_retention_days); by hand, for less.
delete from sync_job where status in ('done', 'cancelled') and finished_at < now() - interval '3 days';

-- === Rebalancing ===

-- name: rebalances-last-hour
-- More than 5 an hour without a deployment: an alert.
select count(*) as rebalance_count
from sync_rebalance
where triggered_at > now() - interval '1 hour';

-- name: rebalance-history
-- What moved, when, why, how long the plan took.
select triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms
from sync_rebalance
order by id desc
limit 20;

-- name: leader-changes
-- When another node took the lead, as far as it shows in the history.
select triggered_at, leader_before, leader_node as leader_after
from (select triggered_at, leader_node, lag(leader_node) over (order by id) as leader_before from sync_rebalance) h
where leader_before <> leader_node
order by triggered_at desc;

-- name: moves-of-the-last-rebalance
-- From whom to whom the tokens went. from is null where nobody held them.
select b.triggered_at, m ->> 'from' as from_node, m ->> 'to' as to_node, m ->> 'tokens' as tokens
from sync_rebalance b cross join lateral jsonb_array_elements(b.moves) m
where b.id = (select max(id) from sync_rebalance)
order by to_node;

-- === One look ===

-- name: alerts
-- One row a rule: what is measured, the limit, and whether it is broken. 3 is the number of nodes that should run.
with seen as (
    select (select count(*) from sync_node where last_heartbeat > now() - interval '15 seconds') as active,
           (select count(*) from sync_node where state <> 'fenced'
            and last_heartbeat < now() - interval '10 seconds') as silent,
           (select m.total_tokens - (select count(*) from sync_token) from sync_meta m) as unowned,
           (select count(*) from sync_rebalance where triggered_at > now() - interval '1 hour') as rebalances,
           (select quarantined::integer from sync_meta) as quarantined
)
select rule, measured, allowed, broken
from seen cross join lateral (values
    ('active nodes', active, '3', active <> 3),
    ('silent nodes', silent, '0', silent > 0),
    ('unowned tokens', unowned, '0', unowned > 0),
    ('rebalances in an hour', rebalances, 'at most 5', rebalances > 5),
    ('quarantined', quarantined, '0', quarantined > 0)
) v (rule, measured, allowed, broken);

-- === Emergencies ===

-- name: sessions
-- The nodes' own database sessions. No session for a node with fast_detection: it is cut off or dead.
select n.name, n.backend_pid, a.state, a.client_addr, now() - a.state_change as since
from sync_node n
left join pg_stat_activity a on a.pid = n.backend_pid
where n.state <> 'fenced'
order by n.name;

-- name: who-holds-up-a-hand-over
-- Transactions that keep a grant or a node row locked, longest first. A hand-over and a fence wait for these, bounded.
select a.pid, a.usename, a.application_name, now() - a.xact_start as open_for, a.state, left(a.query, 80) as query
from pg_locks l
join pg_stat_activity a on a.pid = l.pid
where l.relation in ('sync_grant'::regclass, 'sync_node'::regclass)
  and l.mode in ('RowShareLock', 'RowExclusiveLock', 'AccessExclusiveLock') and l.granted
group by a.pid, a.usename, a.application_name, a.xact_start, a.state, a.query
order by open_for desc;

-- name: cut-a-node-off
-- End a node's session: it opens another and goes on, or, if its process is gone, the others take its tokens.
select name, pg_terminate_backend(backend_pid) as ended from sync_node where name = 'worker-03';

-- name: request-a-nodes-removal
-- A request: a row that holds nothing goes at once, a dead node's when it is fenced; a live node is left alone.
delete from sync_node where name = 'worker-09';

-- name: server-identity
-- Did the database fail over? generation grows when the rows are found on another server or timeline.
select system_id, timeline, generation, quarantined from sync_meta;

-- === Maintenance ===

-- name: sizes
-- The tables, largest first, with what vacuum has to do.
select c.relname as table_name, pg_size_pretty(pg_total_relation_size(c.oid)) as size,
       s.n_live_tup as rows, s.n_dead_tup as dead_rows, greatest(s.last_vacuum, s.last_autovacuum) as vacuumed
from pg_class c
join pg_stat_user_tables s on s.relid = c.oid
where c.relname like 'sync\_%' and pg_table_is_visible(c.oid)
order by pg_total_relation_size(c.oid) desc;

-- name: delete-old-claims
-- The leader prunes by claim_retention_days (7) itself; by hand, for less.
delete from sync_claim where created_on < now() - interval '7 days';

-- name: delete-old-audits
-- Audits are kept for ever unless audit_retention_days is set. A run whose audits are deleted would be done again.
delete from sync_audit where created_on < now() - interval '90 days';

-- name: delete-old-rebalances
delete from sync_rebalance where triggered_at < now() - interval '30 days';

-- name: delete-old-nodes
delete from sync_node where last_heartbeat < now() - interval '7 days';

-- name: delete-test-nodes
-- Live ones are left alone, with a notice.
delete from sync_node where name like 'test-%';

-- name: vacuum-nodes
vacuum analyze sync_node;

-- name: vacuum-grants
-- The table behind sync_token; VACUUM of the view itself only warns.
vacuum analyze sync_grant;

-- name: vacuum-locks
vacuum analyze sync_lock;
