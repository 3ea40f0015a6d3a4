-- The channel on which one node hears that tokens it waits for are free. A name of its own for each node, since waking
-- a whole fleet for every hand-over costs more than the hand-over.
create or replace function sync_free_channel(_name text) returns text
language sql immutable as $$ select 'sync_free_' || to_hex(hashtextextended(_name, 0)) $$;
