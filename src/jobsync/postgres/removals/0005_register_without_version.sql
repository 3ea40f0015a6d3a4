-- Programs of version 4 and older registered without telling their version.
drop function if exists sync_register(text, integer, text, integer, integer, integer, text, text, text, integer, text, boolean);
