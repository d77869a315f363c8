-- Renew a worker's lease, and tell it what it may have missed.
--
-- ARGV: worker, lease_ms, join ('1' where it asks for its first lease), then the run ids it runs
-- Returns 'lost' where another worker took its jobs (a lease that ran out but was not yet taken is
-- renewed: nobody else has its jobs), or
--   { next due ms or '', ms at which something is to be rescued or '' (the lease of another worker
--     runs out, or a job that was brought to one did not come), { run ids to cancel },
--     ms of Redis's clock }

local worker, lease_ms, join = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local workers = prefix .. 'workers'
if join ~= '1' and not redis.call('ZSCORE', workers, worker) then return 'lost' end
redis.call('ZADD', workers, now + lease_ms, worker)

local cancelled, mine = {}, {}
for at = 4, #ARGV do
  -- A record that was spoilt must not cost the lease of all other jobs.
  local job = redis.pcall('HMGET', job_key(ARGV[at]), 'cancel', 'worker')
  if job.err or job[1] or job[2] ~= worker then cancelled[#cancelled + 1] = ARGV[at] end
  mine[ARGV[at]] = true
end
for _, item in ipairs(redis.call('ZRANGE', handed, 0, -1)) do
  if mine[string.match(item, '^%S*')] then redis.call('ZREM', handed, item) end
end

-- A ring may have gone to a worker that stands still, or that died of it: whatever waits still is
-- rung for again.
local function waits(queue)
  local stream = queue_key(queue)
  return redis.pcall('XRANGE', stream, '(' .. last_read(stream), '+', 'COUNT', 1)[1]
end
for _, lane in ipairs(LANES) do
  for _, name in ipairs(QUEUES) do
    if waits(lane .. ':' .. name) then ring(lane) break end
  end
end

local due = redis.call('ZRANGE', prefix .. 'due', 0, 0, 'WITHSCORES')
local earliest = ''
local leases = redis.call('ZRANGE', workers, 0, 1, 'WITHSCORES')
for at = 1, #leases, 2 do
  if leases[at] ~= worker and earliest == '' then earliest = leases[at + 1] end
end
local oldest = redis.call('ZRANGE', handed, 0, 0, 'WITHSCORES')[2]
if oldest then
  earliest = text(math.min(tonumber(oldest) + UNSAID_MS, tonumber(earliest) or math.huge))
end
return { due[2] or '', earliest, cancelled, now }
