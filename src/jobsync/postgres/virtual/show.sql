-- What a checker looks at: every node and every grant.
select (select coalesce(jsonb_agg(jsonb_build_array(n.name, n.incarnation, n.bind, n.state, n.beats, n.takes_tokens)
                                  order by n.takes_tokens desc, n.created_on, n.name), '[]') from sync_node n)::text,
       (select coalesce(jsonb_agg(jsonb_build_array(g.epoch, g.node, g.incarnation, g.tokens::text) order by g.epoch), '[]')
        from sync_grant g)::text
