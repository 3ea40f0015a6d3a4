-- Programs of version 3 and older registered without telling their version.
drop function if exists sync_register(text, integer, text, integer, integer, integer, text, text, text, integer, text, boolean);

-- ... and did not say on which server a lease was to be renewed or a token granted.
drop function if exists sync_beat(text, bigint, bigint, bigint, bigint, boolean);
drop function if exists sync_grow(text, bigint, bigint);
