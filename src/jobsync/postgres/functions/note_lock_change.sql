-- Any change of sync_lock, by the library or by hand, takes effect by itself: the leader plans anew.
create or replace function sync_note_lock_change() returns trigger
language plpgsql as $$
begin
    update sync_meta m set lock_version = m.lock_version + 1;
    perform pg_notify('sync_plan', '');
    return null;
end $$;

create or replace trigger sync_lock_change after insert or update or delete or truncate on sync_lock
for each statement execute function sync_note_lock_change();
