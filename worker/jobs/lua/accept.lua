-- Accept jobs, unless the bridge is up.
--
-- ARGV: ttl_ms of idempotency keys, then for each job
--   run_id, kind, lane, priority, run_at_ms or '', key digest or '', body digest,
--   unique digest or '', spec, payload
-- Returns 'closed' or 'unknown' (see bridge_is_up), or for each job its answer: the ms at which it
-- was submitted; 'conflict'; or, where the same key made a job before or a live job has the same
-- unique key, of that one
--   { run_id, status, submitted ms, spec }
-- A job that is already there under this run id counts as new, so a submission whose answer was
-- lost may be repeated.

local shut = bridge_is_up()
if shut then return shut end

local FIELDS = 10
local key_ttl_ms = ARGV[1]
local answers, listed, woken = {}, {}, {}

-- What is there already is written once more, so that who waits for replicas waits for it too.
local function write_again(run_id, submitted_at)
  redis.call('HSET', job_key(run_id), 'submitted_at', submitted_at)
  return tonumber(submitted_at)
end

local function idem_key(digest) return prefix .. 'idem:' .. digest end

-- The answer for the job that the key made before; nil where this is its first.
local function repeated(run_id, key_digest, body_digest)
  local idem = idem_key(key_digest)
  local before = redis.call('HMGET', idem, 'run_id', 'body')
  local first = before[1] and read(before[1], 'status', 'submitted_at', 'spec')
  if first and first[1] then
    if before[2] ~= body_digest then return 'conflict' end
    local submitted_at = write_again(before[1], first[2])
    if before[1] == run_id then return submitted_at end
    return { before[1], first[1], submitted_at, first[3] }
  end
  redis.call('HSET', idem, 'run_id', run_id, 'body', body_digest)
  redis.call('PEXPIRE', idem, key_ttl_ms)
end

local function accept(at)
  local run_id, kind, lane, priority = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local run_at, key_digest, unique = ARGV[at + 4], ARGV[at + 5], ARGV[at + 7]
  if key_digest ~= '' then
    local answer = repeated(run_id, key_digest, ARGV[at + 6])
    if answer then return answer end
  end
  local key = job_key(run_id)
  local waits = run_at ~= '' and tonumber(run_at) > now
  local before = redis.call('HMGET', key, 'submitted_at')[1]
  if before then return write_again(run_id, before) end
  local more = {}
  if unique ~= '' then
    local first = take_unique(unique, run_id)
    if first then
      if key_digest ~= '' then redis.call('HSET', idem_key(key_digest), 'run_id', first[1]) end
      return { first[1], first[2], write_again(first[1], first[3]), first[4] }
    end
    more = { 'unique', unique }
  end
  -- Whoever is to be called back follows the job, from its beginning.
  if string.find(ARGV[at + 8], '"callback_url":', 1, true) then
    more[#more + 1] = 'followed'
    more[#more + 1] = '1'
  end
  local members = listed[kind] or {}
  members[#members + 1] = '0'
  members[#members + 1] = run_id
  listed[kind] = members
  if waits then
    redis.call('HSET', key, 'status', 'scheduled', 'submitted_at', NOW, 'spec', ARGV[at + 8],
      'payload', ARGV[at + 9], unpack(more))
    schedule(run_id, run_at)
  else
    redis.call('HSET', key, 'status', 'queued', 'submitted_at', NOW, 'spec', ARGV[at + 8],
      'payload', ARGV[at + 9], 'entry', enqueue(run_id, lane .. ':' .. priority), unpack(more))
    woken[lane] = true
  end
  return now
end

for at = 2, #ARGV, FIELDS do answers[#answers + 1] = accept(at) end
for kind, members in pairs(listed) do
  redis.call('ZADD', prefix .. 'index:' .. kind, unpack(members))
  redis.call('SADD', prefix .. 'kinds', kind)
end

-- A single job, mostly a small one, is claimed here and now for a worker that waits, and goes to it
-- with the call: it starts a round trip earlier. The one whose turn it is may be another one.
local function hand_over(lane)
  local worker, channel, number, direct, limits = taken_offer(lane)
  if not worker then return end
  local job = {}
  if direct == '1' then
    -- What is wrong with the queues is for workers to find, and no reason to refuse a job.
    local good, claims = pcall(claim, worker, lane, 1, limits)
    if good then job = claims[1] or job end
  end
  local run_id, token, attempt, spec, payload, checkpoint = unpack(job)
  local message = number .. '\n'
  if run_id then
    redis.call('ZADD', handed, NOW, run_id .. ' ' .. text(token))
    spec, payload = spec or '', payload or ''
    message = message .. table.concat({ run_id, text(token), text(attempt), #spec, #payload }, '\n')
      .. '\n' .. spec .. payload .. (checkpoint or '')
  end
  redis.call('PUBLISH', channel, message)
  if run_id and run_id ~= ARGV[2] then ring(lane) end
end
local wake = #ARGV == 1 + FIELDS and hand_over or ring
for lane in pairs(woken) do wake(lane) end
return answers
