-- Pause a queue; where it is paused already, by whom and since when stays as it is.
with paused as (
    insert into sync_job_pause (queue, paused_by) values ($1::text, coalesce($2::text, session_user))
    on conflict (queue) do nothing)
select 1
