-- older_nodes
-- Whose program is older than version $1, and who is not certainly dead. The oldest first.
select n.name, n.schema_version from sync_node n
where n.state <> 'fenced' and coalesce(n.schema_version, 0) < $1::integer
order by n.created_on, n.name
