#!lua
-- Who is live now.
--
-- KEYS: leases (zset), reports (hash), began (string)
-- ARGV: none
-- Returns { age_ms of the roll or -1, report, report, … }

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local began = redis.call('GET', KEYS[3])
local answer = { began and now - began or -1 }
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  local report = redis.call('HGET', KEYS[2], instance)
  if report then answer[#answer + 1] = report end
end
return answer
