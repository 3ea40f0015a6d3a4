-- Who holds which range of tokens, in the order of the tokens. The right to lead (token -1) is none of the pool.
select g.node, lower(r) as first_token, upper(r) as end_token
from sync_grant g
cross join lateral unnest(g.tokens - '{[-1,0)}') r
order by 2
