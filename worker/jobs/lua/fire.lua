-- A time of a periodic kind has come: make its runs and set the next time, unless the bridge is up.
--
-- ARGV: kind, definition, the time that has come in ms, the next one, the last one that is run for
--   or '', the payload, then for each run: run_id, spec
-- Returns 'closed' or 'unknown' (see bridge_is_up), or
--   { 1 where it was this call, else 0; the next time, '' where another definition stands; now }
-- Whoever comes first moves the time on, so that the others find nothing to do.

local shut = bridge_is_up()
if shut then return shut end

local kind, definition, due = ARGV[1], ARGV[2], tonumber(ARGV[3])
local schedules, key = prefix .. 'schedules', prefix .. 'schedule:' .. kind
if redis.call('HGET', key, 'definition') ~= definition then return { 0, '', now } end
local stands = redis.call('ZSCORE', schedules, kind)
if not stands or tonumber(stands) ~= due or now < due then return { 0, stands or '', now } end

for at = 7, #ARGV, 2 do make(ARGV[at], ARGV[at + 1], ARGV[6]) end
redis.call('ZADD', schedules, ARGV[4], kind)
if ARGV[5] ~= '' then
  redis.call('HSET', key, 'last', ARGV[5], 'last_run', ARGV[#ARGV - 1])
end
return { 1, ARGV[4], now }
