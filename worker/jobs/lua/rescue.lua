-- Take the jobs of workers whose leases ran out: they run again, or fail after their last attempt;
-- and those that were brought to a worker but did not come.
--
-- ARGV: ttl_ms, error JSON for a job that is lost for the last time, ms of Redis's clock at the
--   caller's own last heartbeat, the most ms that may lie between then and now
-- Returns 'late' where more lies between: then Redis, the link or the caller stood still, the other
-- workers' heartbeats may be as late as this call, and nobody can be called lost. Else for each job
--   { run_id, worker, 'queued' | 'failed' | 'cancelled' }

local BATCH = 500
local ttl_ms, error_json = ARGV[1], ARGV[2]
local rescued, woken = {}, {}
if now - ARGV[3] > tonumber(ARGV[4]) then return 'late' end

local function rescue(run_id, worker, lane)
  local job = read(run_id, 'status', 'worker', 'attempt', 'spec', 'token', 'progressed', 'cancel',
    'followed', 'entry', 'unique')
  if job[1] ~= 'running' or job[2] ~= worker then return end
  local queue, _, limited = place(job[9])
  free_slot(run_id, queue, limited)
  local attempt, rev, followed = job[3], running_at(job[5], job[6]) + 1, job[8]
  local outcome = 'queued'
  if job[7] then outcome = 'cancelled'
  elseif tonumber(attempt) >= (terms(job[4]).max_attempts or 1) then outcome = 'failed' end
  if outcome == 'queued' then
    redis.call('HSET', job_key(run_id), 'status', 'queued', 'rev', text(rev), 'worker', '',
      'since', NOW, 'entry', enqueue(run_id, lane .. ':returned'))
    tell_status(followed, run_id, rev, 'queued', attempt)
    woken[lane] = true
  else
    local more = outcome == 'failed' and { 'error', error_json } or {}
    conclude(run_id, attempt, followed, job[10], rev, outcome, ttl_ms, more)
  end
  rescued[#rescued + 1] = { run_id, worker, outcome }
end

-- The entries of a lost worker in one queue; true when none is left.
local function empty(worker, lane, name)
  local queue = lane .. ':' .. name
  local stream = queue_key(queue)
  local pending = redis.pcall('XPENDING', stream, GROUP, '-', '+', BATCH, worker)
  if pending.err then return true end -- no such queue or group: nothing to rescue
  for _, item in ipairs(pending) do
    local entry = redis.call('XRANGE', stream, item[1], item[1])[1]
    dequeue(queue, item[1])
    if entry then rescue(entry[2][2], worker, lane) end
  end
  if #pending == BATCH then return false end
  redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, worker)
  return true
end

local workers = prefix .. 'workers'
for _, worker in ipairs(redis.call('ZRANGE', workers, '-inf', now, 'BYSCORE', 'LIMIT', 0, 10)) do
  local done = true
  for _, lane in ipairs(LANES) do
    withdraw(lane, worker)
    for _, name in ipairs(QUEUES) do done = empty(worker, lane, name) and done end
  end
  if done then redis.call('ZREM', workers, worker) end
end

-- What was brought to somebody who has not said that it came.
local late = text(now - UNSAID_MS)
for _, item in ipairs(redis.call('ZRANGE', handed, '-inf', late, 'BYSCORE', 'LIMIT', 0, BATCH)) do
  redis.call('ZREM', handed, item)
  local run_id, token = string.match(item, '^(%S+) (%d+)$')
  local worker = run_id and read(run_id, 'worker')[1]
  local answer, lane = 0, nil
  if worker then answer, lane = give_back(run_id, token, '', 0, ttl_ms) end
  if answer == 1 then rescued[#rescued + 1] = { run_id, worker, lane and 'queued' or 'cancelled' } end
  if lane then woken[lane] = true end
end

for lane in pairs(woken) do ring(lane) end
await_archive()
return rescued
