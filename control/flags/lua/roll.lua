#!lua
-- Who is live now.
--
-- KEYS: leases (zset), reports (hash), began (string)
-- ARGV: lease_ms, gap_ms
-- Returns { age_ms of the roll or -1, report, report, … }. -1 too where nobody told anything for
-- `gap_ms`: the clock may have been set forward, and leases that seem over may be good.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local began = redis.call('GET', KEYS[3])
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local told = newest and newest - ARGV[1] or now
local answer = { began and now - told <= tonumber(ARGV[2]) and now - began or -1 }
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  local report = redis.call('HGET', KEYS[2], instance)
  if report then answer[#answer + 1] = report end
end
return answer
