-- What a judge of plans looks at: every node, every target, the steering in force, the tokens that are pinned.
select (select coalesce(jsonb_agg(jsonb_build_array(n.name, n.state, n.takes_tokens)), '[]') from sync_node n)::text,
       (select coalesce(jsonb_agg(jsonb_build_array(t.node, t.tokens::text)), '[]') from sync_target t)::text,
       (select coalesce(jsonb_agg(jsonb_build_array(s.verb, coalesce(s.node, ''))), '[]') from sync_steering s
        where s.ended_at is null and (s.ends_at is null or s.ends_at > clock_timestamp()))::text,
       (select coalesce(jsonb_agg(l.token_id), '[]') from sync_lock l)::text
