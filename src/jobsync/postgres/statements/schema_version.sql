-- schema_version
-- How far the schema is, and the oldest program that it lets live. Asked of schemas of any age, older than the second number too.
select m.schema_version, coalesce((to_jsonb(m) ->> 'oldest_program')::integer, 0) as oldest_program from sync_meta m
