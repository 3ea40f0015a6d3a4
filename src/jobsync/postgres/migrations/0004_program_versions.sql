-- jobsync schema, version 4: two versions of the program side by side.
--
-- A migration only adds, so that older programs go on; what they alone need is taken away later, by the removal of the
-- same number, when the last of them is gone. So a program fits these tables if its own version is between the two
-- numbers of sync_meta.
alter table sync_meta add column oldest_program integer not null default 0;  -- removed for: older programs find no more what they need

-- Which version of the schema the node's program was made for; null: it is older than this question.
alter table sync_node add column schema_version integer;
