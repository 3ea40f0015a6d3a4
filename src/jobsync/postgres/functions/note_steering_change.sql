-- Any change of sync_steering, by the library or by hand, takes effect by itself: the leader plans anew, and workers look.
create or replace function sync_note_steering_change() returns trigger
language plpgsql as $$
begin
    if tg_op <> 'TRUNCATE' then
        -- Old rows that are pruned change nothing.
        if not exists (select from changed c where c.ended_at is null or tg_op = 'UPDATE') then
            return null;
        end if;
    end if;
    update sync_meta m set lock_version = m.lock_version + 1, steered_version = m.lock_version + 1;
    perform sync_notify_leader();
    perform pg_notify('sync_job', '');
    return null;
end $$;

create or replace trigger sync_steering_inserted after insert on sync_steering
referencing new table as changed for each statement execute function sync_note_steering_change();

create or replace trigger sync_steering_updated after update on sync_steering
referencing new table as changed for each statement execute function sync_note_steering_change();

create or replace trigger sync_steering_deleted after delete on sync_steering
referencing old table as changed for each statement execute function sync_note_steering_change();

create or replace trigger sync_steering_truncated after truncate on sync_steering
for each statement execute function sync_note_steering_change();
