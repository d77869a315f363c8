#!lua flags=allow-oom
-- Give a key up, if it still says that it is ours.
--
-- KEYS: the key
-- ARGV: what it says
-- Returns whether it was ours.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
