-- The jobs that ended and are not yet archived, the first of them, for the one worker whose turn it
-- is.
--
-- ARGV: worker, how long its turn lasts in ms, the most, the largest result in bytes, the most bytes
--   of results together, then the fields to read
-- Returns 'busy' while it is another's turn, else for each
--   { run_id, when it ended in ms, bytes of its result, the result or '', fields... }
-- A turn only keeps two from doing the same work: to archive twice is to archive once.

local turn = prefix .. 'archivist'
local holder = redis.call('GET', turn)
if holder and holder ~= ARGV[1] then return 'busy' end
redis.call('SET', turn, ARGV[1], 'PX', ARGV[2])

local most, largest, left = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local rows = {}
local found = redis.call('ZRANGE', prefix .. 'ended', 0, most - 1, 'WITHSCORES')
for at = 1, #found, 2 do
  local size = redis.pcall('HSTRLEN', job_key(found[at]), 'result')
  if type(size) ~= 'number' then size = 0 end
  local kept = size > 0 and size <= largest
  if kept and size > left then break end
  local result = ''
  if kept then
    result = redis.call('HGET', job_key(found[at]), 'result')
    left = left - size
  end
  rows[#rows + 1] = { found[at], found[at + 1], size, result, read(found[at], unpack(ARGV, 6)) }
end
return rows
