-- One beat, one statement: prove life, and learn what changed. No row: the incarnation was fenced.
--   _system_id, _timeline   given behind a pooler: the server that the lease is to be renewed on, and on no other
--   target     the tokens wanted for this node, given only when the plan differs from _known_plan_version
--   planned    the plan has a target for this node, made for one that takes tokens, or takes none, as this one does
--   live       live nodes that take tokens: what minimum_nodes counts
--   elders     live nodes older than this one that seem well, counted to two: below two, this node watches
--   members    how many are not fenced, this node included
--   roster     changes whenever a member that takes tokens comes or goes
--   plan_due   the plan does not fit the members, the leader, the locks or what people steer (expired locks are looked for only when _check)
create or replace function sync_beat(_name text, _incarnation bigint, _bind bigint, _applied_version bigint, _known_plan_version bigint,
                                     _check boolean, _system_id text, _timeline text)
returns table (beats bigint, plan_version bigint, planned boolean, target text, leader text, live integer, elders integer,
               members integer, roster text, plan_due boolean, quarantined boolean, longest_lease_ms integer)
language plpgsql as $$
declare
    me sync_node;
    agreed sync_meta;
    drained text[];
    closed text[];
    frozen boolean;
begin
    if _system_id is not null then
        perform sync_require_server(_system_id, _timeline);
    end if;
    perform set_config('synchronous_commit', 'on', true);
    perform set_config('lock_timeout', '150ms', true);
    update sync_node n set beats = n.beats + 1, last_heartbeat = clock_timestamp(), delete_requested = false,
        applied_version = greatest(n.applied_version, _applied_version)
    where n.name = _name and n.incarnation = _incarnation and n.bind = _bind and n.state <> 'fenced'
    returning n.* into me;
    if not found then
        return;
    end if;
    select * into agreed from sync_meta m;
    beats := me.beats;
    plan_version := agreed.plan_version;
    quarantined := agreed.quarantined;
    select true, case when agreed.plan_version <> _known_plan_version then t.tokens::text end
    into planned, target from sync_target t where t.node = _name and t.takes_tokens = me.takes_tokens;
    planned := coalesce(planned, false);
    select coalesce(array_agg(s.node) filter (where s.verb = 'drain'), '{}'), coalesce(array_agg(s.node), '{}'),
           coalesce(bool_or(s.verb = 'freeze'), false),
           coalesce(bool_or(s.ends_at <= clock_timestamp()), false)
    into drained, closed, frozen, plan_due
    from sync_steering s where s.ended_at is null;
    -- Whoever is drained leads last of all.
    select n.name into leader from sync_node n where n.state = 'live'
    order by n.name = any (drained), n.takes_tokens desc, n.created_on, n.name limit 1;
    -- Who is entering counts only those who seem well: it may be waiting for enough of them.
    select count(*) filter (where n.takes_tokens and n.state = 'live'
                            and (_known_plan_version >= 0 or n.name = _name or sync_seems_well(n))),
           count(*),
           count(*) filter (where n.takes_tokens) || ':' || coalesce(sum(n.incarnation) filter (where n.takes_tokens), 0)
               || ':' || count(*) filter (where n.takes_tokens and n.state = 'live'),
           max(n.row_lease_ms)
    into live, members, roster, longest_lease_ms
    from sync_node n where n.state <> 'fenced';
    select count(*) into elders from (
        select from sync_node n
        where n.state = 'live' and (n.created_on, n.name) < (me.created_on, me.name)
          and sync_seems_well(n)
        limit 2) elder;
    plan_due := plan_due or agreed.lock_version <> agreed.planned_lock_version
        -- Compared as sets, which takes a walk over each whatever the planner knows of the tables: on tables that were never
        -- analysed it would look every node up among all targets.
        or exists (select n.name, n.takes_tokens from sync_node n where n.state = 'live'
                   except select t.node, t.takes_tokens from sync_target t)
        -- A frozen fleet keeps the place of whoever left, until he is back; but not that of the dead.
        or case when frozen
                then exists (select t.node from sync_target t intersect select n.name from sync_node n where n.state = 'fenced')
                else exists (select t.node from sync_target t except select n.name from sync_node n where n.state = 'live') end
        -- A drained node keeps its tokens only until somebody may take them, who may come back to a place that a freeze kept.
        or exists (select from sync_target t where t.node = any (drained) and not isempty(t.tokens - '{[-1,0)}')
                   and exists (select from sync_node n where n.state = 'live' and n.takes_tokens
                               and not coalesce(n.name = any (closed), false)))
        -- Token -1 is the right to lead: a leader that was fenced may be back under its name, and the oldest no more.
        or (leader is not null
            and not exists (select from sync_target t where t.node = sync_beat.leader and t.tokens @> -1))
        or (_check and exists (select from sync_lock l where l.expires_at <= clock_timestamp()));
    return next;
end $$;
