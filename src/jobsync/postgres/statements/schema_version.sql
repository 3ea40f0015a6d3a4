select schema_version from sync_meta
