-- A worker says which periodic kinds it knows; again each minute.
--
-- ARGV: since when it says so in ms ('' the first time: since now), forget_ms, then for each kind
--   kind, definition, first time after now in ms
-- Returns { ms of Redis's clock, for each kind its next time, or '' where another definition stands }
-- The definition of the worker that started last stands, so that old and new ones may run side by
-- side. Who says so for the first time forgets none: others that start beside it may declare them.

local schedules = prefix .. 'schedules'
local first = ARGV[1] == ''
local since = first and now or tonumber(ARGV[1])
local answers = { now }

for at = 3, #ARGV, 3 do
  local kind, definition = ARGV[at], ARGV[at + 1]
  local key = prefix .. 'schedule:' .. kind
  local stands = redis.call('HMGET', key, 'definition', 'since')
  local ours, stood = stands[1] == definition, tonumber(stands[2] or 0)
  if not ours and (since > stood or (first and since == stood)) then
    ours = true
    redis.call('HSET', key, 'definition', definition)
    redis.call('ZADD', schedules, ARGV[at + 2], kind)
  end
  if ours then
    redis.call('HSET', key, 'since', text(math.max(since, stood)), 'seen', NOW)
  end
  answers[#answers + 1] = ours and redis.call('ZSCORE', schedules, kind) or ''
end

if not first then
  for _, kind in ipairs(redis.call('ZRANGE', schedules, 0, -1)) do
    local key = prefix .. 'schedule:' .. kind
    local seen = tonumber(redis.call('HGET', key, 'seen') or 0)
    if seen < now - ARGV[2] then
      redis.call('DEL', key)
      redis.call('ZREM', schedules, kind)
    end
  end
end
return answers
