-- Who holds which range of tokens, under which epoch, since when, in the order of the tokens. The right to lead (-1) is none.
select g.node, lower(r) as first_token, upper(r) as end_token, g.epoch, g.assigned_at
from sync_grant g
cross join lateral unnest(g.tokens - '{[-1,0)}') r
order by 2
