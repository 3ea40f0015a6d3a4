-- Whether the table $1 is there. Read from the catalogue and not by to_regclass: a session that has waited for the schema
-- lock in this transaction would be answered from its cache, as of before the wait.
select exists (select from pg_class c where c.relname = lower($1::text) and pg_table_is_visible(c.oid))
