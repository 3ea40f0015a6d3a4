-- Hand-overs under way that contradict what is granted, or one another: what has no owner is written down once, and what has
-- one is not.
select h.id, h.tokens::text
from sync_handover h
where h.granted_at is null
  and (exists (select from sync_grant g where g.tokens && h.tokens)
       or exists (select from sync_handover o where o.granted_at is null and o.id <> h.id and o.tokens && h.tokens))
