-- jobsync schema, version 3: what people ask of the fleet beside the plan, with who asked and when.
--
--   cordon  the node gets no new tokens and no new jobs
--   drain   the same, and it hands over what it has
--   freeze  joins and leaves move no tokens; those of the certainly dead are still taken over
--
-- What is in force has no ended_at. It holds for a name, whoever bears it, until it is resumed or runs out; a row that is
-- deleted is resumed.
create table sync_steering (
    id       bigint generated always as identity primary key,
    verb     text not null check (verb in ('cordon', 'drain', 'freeze')),
    node     text collate "C" check ((node is null) = (verb = 'freeze')),  -- null: the whole fleet
    reason   text,
    asked_by text not null,
    asked_at timestamptz not null default clock_timestamp(),
    ends_at  timestamptz,                                                  -- null: when it is resumed
    ended_at timestamptz,
    ended_by text
);
create unique index sync_steering_in_force on sync_steering (coalesce(node, '')) where ended_at is null;

-- The lock_version that the latest change of steering made: the plan's reason tells locks and steering apart by it.
alter table sync_meta add column steered_version bigint not null default 0;
