-- For whom the plan wants which range of tokens, in the order of the tokens. The right to lead (-1) is none.
select t.node, lower(r) as first_token, upper(r) as end_token
from sync_target t
cross join lateral unnest(t.tokens - '{[-1,0)}') r
order by 2
