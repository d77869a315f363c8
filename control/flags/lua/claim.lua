#!lua flags=allow-oom
-- Claim a command, or hear that another instance has it.
--
-- KEYS: the command's own key, and the key that says its event was just repeated
-- ARGV: instance, lease_ms, channel, quiet_ms
-- Returns 'taken', 'busy', or 'done': then its event was published again, once in `quiet_ms`, for a
-- publisher that missed it.

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 'taken' end
local said = redis.call('GET', KEYS[1])
if string.sub(said, 1, 1) ~= '{' then return 'busy' end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[4]) then
  redis.call('PUBLISH', ARGV[3], said)
end
return 'done'
