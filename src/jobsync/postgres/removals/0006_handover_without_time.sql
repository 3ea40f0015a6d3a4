-- Programs of version 5 and older gave tokens up without saying since when they had not believed in them ...
drop function if exists sync_shrink(text, bigint, bigint, int4multirange);

-- ... and fenced without saying since when the node had been silent.
drop function if exists sync_fence(text, bigint, bigint, bigint, text);
