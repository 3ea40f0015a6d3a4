-- Run up to $5 jobs again that ended so, of one kind and queue, or of all (null), with ids from $4 on. The count, and the
-- last id that was looked at; null: there are no more.
with chosen as (
    select e.id from sync_job_end e
    join sync_job_body b on b.id = e.id
    join sync_job_lane l on l.lane = b.lane
    where e.status = $3::text and ($1::text is null or l.kind = $1::text) and ($2::text is null or l.queue = $2::text)
      and e.id > $4::bigint
    order by e.id
    limit $5::integer)
select (select count(*) from sync_job_retry(array(select c.id from chosen c))), (select max(c.id) from chosen c)
