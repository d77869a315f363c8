#!lua flags=allow-oom
-- An instance ends: it is no longer live.
--
-- KEYS: leases (zset), reports (hash)
-- ARGV: instance, channel, what is published
-- Returns whether it was there.

redis.call('HDEL', KEYS[2], ARGV[1])
local was = redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return was
