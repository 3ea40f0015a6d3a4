-- One snapshot of everything that the deal depends on. Nodes come in the order in which they lead: the drained
-- last, those that take tokens first, then by age; each with whether it takes tokens, as do targets; locks in the order of registration, column by column: ten thousand of them are read several times quicker so.
select m.plan_version,
       m.lock_version,
       m.total_tokens,
       clock_timestamp()::text as began_at,
       (select coalesce(jsonb_agg(jsonb_build_array(n.name, n.takes_tokens) order by n.name = any (steered.drained), n.takes_tokens desc,
                                                                                          n.created_on, n.name),
                        '[]')
        from sync_node n where n.state = 'live')::text as nodes,
       (select coalesce(jsonb_agg(n.name), '[]') from sync_node n where n.state = 'fenced')::text as fenced,
       (select coalesce(jsonb_agg(jsonb_build_array(t.node, t.tokens::text, t.takes_tokens)), '[]')
        from sync_target t)::text as targets,
       (select json_build_array(coalesce(json_agg(l.token_id), '[]'), coalesce(json_agg(l.task_id), '[]'),
                                coalesce(json_agg(l.node_patterns::text), '[]'))
        from (select * from sync_lock l
              where $1::boolean and (l.expires_at is null or l.expires_at > clock_timestamp())
              order by l.created_at, l.id) l)::text as locks,
       json_build_object('cordoned', steered.cordoned, 'drained', steered.drained, 'frozen', steered.frozen,
                         'changed', m.steered_version > m.planned_lock_version or steered.ran_out)::text as steering
from sync_meta m
cross join (select coalesce(array_agg(s.node) filter (where s.verb = 'cordon' and not s.is_over), '{}') as cordoned,
                   coalesce(array_agg(s.node) filter (where s.verb = 'drain' and not s.is_over), '{}') as drained,
                   coalesce(bool_or(s.verb = 'freeze' and not s.is_over), false) as frozen,
                   coalesce(bool_or(s.is_over), false) as ran_out
            from (select s.verb, s.node, coalesce(s.ends_at <= clock_timestamp(), false) as is_over
                  from sync_steering s where s.ended_at is null) s) steered
