select g.epoch, g.tokens::text as tokens
from sync_grant g
where g.node = $1::text and g.incarnation = $2::bigint
order by g.epoch
