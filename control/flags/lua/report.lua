#!lua flags=allow-oom
-- Renew an instance's lease and keep its report.
--
-- KEYS: leases (zset), reports (hash), began (string)
-- ARGV: instance, lease_ms, report, kept_ms, channel, tell ('1' or '0'), gap_ms
-- `began` tells since when the roll is whole: an emptied Redis has forgotten who is live, and only
-- after a lease has every live instance told again. So it is where for `gap_ms` nobody told anything,
-- or where the clock was set back: leases may have ended by the clock that were still good.
-- Returns { now, in milliseconds; 1 where Redis has room for those too who may not write where it
-- is full, 0 where it has little or does not let us see }

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept_ms = tonumber(ARGV[4])

for at, wanted in ipairs({ 'zset', 'hash', 'string' }) do
  local is = redis.call('TYPE', KEYS[at]).ok
  if is ~= wanted and is ~= 'none' then redis.call('DEL', unpack(KEYS)) end
end
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local began = tonumber(redis.call('GET', KEYS[3]) or '')
local told = newest and newest - ARGV[2]
if not began or began > now or (told and now - told > tonumber(ARGV[7])) then
  redis.call('SET', KEYS[3], now)
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - kept_ms)) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], gone)
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, kept_ms) end
if ARGV[6] == '1' then redis.call('PUBLISH', ARGV[5], ARGV[3]) end
local info = redis.pcall('INFO', 'memory')
if type(info) ~= 'string' then info = '' end
local used = tonumber(string.match(info, '\nused_memory:(%d+)') or '')
local most = tonumber(string.match(info, '\nmaxmemory:(%d+)') or '')
return { now, used and most and (most == 0 or used < 0.9 * most) and 1 or 0 }
