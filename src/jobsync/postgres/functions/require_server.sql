-- Refuse what was meant for another server. A pooler may keep its clients over a fail-over: what they say next is carried out on a
-- server that they know nothing of, and that may lack what they were granted. The error says that the session is over
-- (class 57P), as it would be without the pooler: whoever asked connects anew, and then hears whom he talks to.
create or replace function sync_require_server(_system_id text, _timeline text) returns void
language plpgsql as $$
begin
    if (select (s.system_id, s.timeline) is distinct from (_system_id, _timeline) from sync_this_server() s) then
        raise exception 'the server behind this session is another than when the session began'
            using errcode = '57PJS', hint = 'A fail-over happened behind a pooler. The node connects anew by itself.';
    end if;
end $$;
