-- Go on from an older copy of all rows: what was committed since then is lost. Numbers drawn since then may be drawn again,
-- but for some that the log writes ahead of need (virtual.ahead).
do $body$
declare
    kept constant jsonb := current_setting('virtual.kept')::jsonb;
begin
    set local session_replication_role = replica;
    delete from sync_grant;
    delete from sync_node;
    delete from sync_target;
    delete from sync_lock;
    delete from sync_steering;
    delete from sync_handover where granted_at is null;
    delete from sync_meta;
    insert into sync_meta select * from jsonb_populate_recordset(null::sync_meta, kept -> 'meta');
    insert into sync_node select * from jsonb_populate_recordset(null::sync_node, kept -> 'node') where kept ->> 'node' is not null;
    insert into sync_grant select * from jsonb_populate_recordset(null::sync_grant, kept -> 'grant') where kept ->> 'grant' is not null;
    insert into sync_target select * from jsonb_populate_recordset(null::sync_target, kept -> 'target')
        where kept ->> 'target' is not null;
    insert into sync_lock overriding system value
        select * from jsonb_populate_recordset(null::sync_lock, kept -> 'lock') where kept ->> 'lock' is not null;
    insert into sync_steering overriding system value
        select * from jsonb_populate_recordset(null::sync_steering, kept -> 'steering') where kept ->> 'steering' is not null;
    insert into sync_handover overriding system value
        select * from jsonb_populate_recordset(null::sync_handover, kept -> 'handover') where kept ->> 'handover' is not null;
    perform setval('sync_epoch', least((kept ->> 'epoch')::bigint + current_setting('virtual.ahead')::integer,
                                       (select last_value from sync_epoch)));
end $body$;
