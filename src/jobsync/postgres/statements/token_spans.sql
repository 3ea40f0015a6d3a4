-- Who holds which range of tokens, in the order of the tokens.
select g.node, lower(r) as first_token, upper(r) as end_token
from sync_grant g
cross join lateral unnest(g.tokens) r
order by 2
