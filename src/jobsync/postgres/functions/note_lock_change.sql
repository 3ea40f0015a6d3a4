-- Any change of sync_lock, by the library or by hand, takes effect by itself: the leader plans anew. A statement that
-- touched no row changes nothing.
create or replace function sync_note_lock_change() returns trigger
language plpgsql as $$
begin
    if tg_op <> 'TRUNCATE' then
        if not exists (select from changed) then
            return null;
        end if;
    end if;
    update sync_meta m set lock_version = m.lock_version + 1;
    perform sync_notify_leader();
    return null;
end $$;

create or replace trigger sync_lock_inserted after insert on sync_lock
referencing new table as changed for each statement execute function sync_note_lock_change();

create or replace trigger sync_lock_updated after update on sync_lock
referencing new table as changed for each statement execute function sync_note_lock_change();

create or replace trigger sync_lock_deleted after delete on sync_lock
referencing old table as changed for each statement execute function sync_note_lock_change();

create or replace trigger sync_lock_truncated after truncate on sync_lock
for each statement execute function sync_note_lock_change();
