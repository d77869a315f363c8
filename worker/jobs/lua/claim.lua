-- Claim up to `count` jobs of a lane for a live worker, unless the bridge is up.
--
-- ARGV: worker, lane, count, resync ('1' or '0'), then the run ids that the worker knows it holds
-- Returns 'closed' or 'unknown' (see bridge_is_up), 'lost' (the worker has no lease), or a list of
--   { run_id, token, attempt, spec, payload, checkpoint or false }
-- With resync, jobs that an earlier answer assigned to this worker but that never reached it come
-- first, with a new token. A count of 0 asks for those alone: they are claimed already, so the
-- bridge does not keep them from being given back.

local worker, lane, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', prefix .. 'workers', worker) then return 'lost' end
local shut = count > 0 and bridge_is_up()
if shut then return shut end

local claims = {}

-- Make a job this worker's, if it is `expected`; false where it is not.
local function take(run_id, expected)
  local job = read(run_id,
    'status', 'spec', 'payload', 'rev', 'attempt', 'checkpoint', 'followed')
  if job[1] ~= expected then return false end
  local token, attempt = (job[4] or 1) + 1, tonumber(job[5] or 0)
  if expected == 'queued' then attempt = attempt + 1
  else token = running_at(unpack(read(run_id, 'token', 'progressed'))) + 1 end
  redis.call('HSET', job_key(run_id), 'status', 'running', 'token', text(token),
    'attempt', text(attempt), 'worker', worker, 'started_at', NOW)
  tell_status(job[7], run_id, token, 'running', attempt)
  claims[#claims + 1] = { run_id, token, attempt, job[2], job[3], job[6] }
  return true
end

-- Entries are { id, { 'job', run_id } }; an entry without a body was deleted by a cancel.
local function entries(stream, from, most)
  local function attempt()
    return redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', most, 'STREAMS', stream, from)
  end
  local got = attempt()
  if type(got) == 'table' and got.err then
    if not string.find(got.err, 'NOGROUP', 1, true) then return error(got.err) end
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    got = attempt()
  end
  return got and got[1][2] or {}
end

local ALL = 16384 -- more than a worker has slots
if ARGV[4] == '1' then
  local known = {}
  for at = 5, #ARGV do known[ARGV[at]] = true end
  for _, name in ipairs(QUEUES) do
    for _, entry in ipairs(entries(queue_key(lane .. ':' .. name), '0', ALL)) do
      local run_id = entry[2] and entry[2][2]
      if run_id and not known[run_id] then take(run_id, 'running') end
    end
  end
end

for _, name in ipairs(QUEUES) do
  local queue = lane .. ':' .. name
  while #claims < count do
    local found = entries(queue_key(queue), '>', count - #claims)
    if #found == 0 then break end
    for _, entry in ipairs(found) do
      if not take(entry[2][2], 'queued') then dequeue(queue, entry[1]) end
    end
  end
end

-- What we could not carry is for the next consumer.
if count > 0 and #claims >= count then ring(lane) end
return claims
