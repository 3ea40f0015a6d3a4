-- Every row that a standby has, or that the disk had when the machine went down, as one value.
select jsonb_build_object(
    'meta', (select jsonb_agg(t) from sync_meta t),
    'node', (select jsonb_agg(t) from sync_node t),
    'grant', (select jsonb_agg(t) from sync_grant t),
    'target', (select jsonb_agg(t) from sync_target t),
    'lock', (select jsonb_agg(t) from sync_lock t),
    'steering', (select jsonb_agg(t) from sync_steering t),
    'handover', (select jsonb_agg(t) from sync_handover t where t.granted_at is null),
    'epoch', (select last_value from sync_epoch))::text
