-- Take from an allowance that refills evenly, by the generic cell rate algorithm (ITU-T I.371): the
-- key holds when the allowance will be full again.
--
-- KEYS: one allowance
-- ARGV: period_ms between two, burst, cost
-- Returns { whether it was allowed (1, 0), how many are left, ms until cost is there (0: now),
--   ms until it is full }

local period, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000

local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wanted = full_at + period * cost
local allow_at = wanted - period * burst

if allow_at > now then
  local left = math.floor((now + period * burst - full_at) / period)
  return { 0, left, math.ceil(allow_at - now), math.ceil(full_at - now) }
end
if cost > 0 then
  redis.call('SET', KEYS[1], string.format('%.3f', wanted), 'PX', math.ceil(wanted - now))
end
return { 1, math.floor((now - allow_at) / period), 0, math.ceil(wanted - now) }
