-- Once a node holds just what the plan wants for it, its row bears the number of that plan. The right to lead (token -1)
-- is left out: it may wait for what the old leader has in hand.
create or replace function sync_note_applied(_name text) returns void
language sql as $$
    update sync_node n set applied_version = m.plan_version
    from sync_meta m, sync_target t
    where n.name = _name and t.node = _name and t.takes_tokens = n.takes_tokens and n.applied_version < m.plan_version
      and t.tokens - '{[-1,0)}' =
          coalesce((select range_agg(r) from sync_grant g, unnest(g.tokens) r where g.node = _name), '{}') - '{[-1,0)}'
$$;
