#!lua flags=allow-oom
-- Hold a key for a while, unless somebody does.
--
-- KEYS: the key
-- ARGV: what it is to say, how long in milliseconds
-- Returns what it says now, and for how many milliseconds more.
-- One that would last for ever somebody else has written: it does not count.

if redis.call('PTTL', KEYS[1]) == -1 then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }
