-- Drop jobs that ended so long ago that their records have expired before anybody archived them.
--
-- ARGV: how long ago in ms
-- Returns how many.

return redis.call('ZREMRANGEBYSCORE', prefix .. 'ended', '-inf', '(' .. text(now - ARGV[1]))
