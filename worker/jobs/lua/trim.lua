-- Take jobs whose records have expired out of a listing, a bounded number of looks at a time.
--
-- ARGV: the listing's name after `index:`, the run id to go on after or '', the run id before which
--   a record may have expired, the most to look at
-- Returns { how many were taken out, the run id to go on after or '' at the end }

local index, most = prefix .. 'index:' .. ARGV[1], tonumber(ARGV[4])
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local looked = redis.call('ZRANGE', index, from, '(' .. ARGV[3], 'BYLEX', 'LIMIT', 0, most)
local gone = {}
for _, run_id in ipairs(looked) do
  if redis.call('EXISTS', job_key(run_id)) == 0 then gone[#gone + 1] = run_id end
end
if #gone > 0 then redis.call('ZREM', index, unpack(gone)) end
return { #gone, #looked == most and looked[most] or '' }
