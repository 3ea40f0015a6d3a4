-- See the queue's tables as its owner does, whatever the caller of this transaction has set; the row says what that was.
-- The functions of the schema name their tables by the search path.
select s.search_path, s.role, set_config('search_path', quote_ident($1::text), true), set_config('role', 'none', true)
from (select current_setting('search_path') as search_path, current_setting('role') as role offset 0) s
