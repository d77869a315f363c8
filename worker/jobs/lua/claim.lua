-- Claim up to `count` jobs of a lane for a live worker, unless the bridge is up.
--
-- ARGV: worker, lane, count, limits (JSON: how many of a kind may run at once, fleet-wide), resync
--   ('1' or '0'), then the run ids that the worker knows it holds
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

-- How many more of each limited kind may run. A run whose record somebody spoilt would keep its
-- slot for ever, so each time one of them is looked at, whichever.
local free = {}
for kind, limit in pairs(cjson.decode(ARGV[4])) do
  local slots = slots_key(kind)
  local one = redis.call('SRANDMEMBER', slots)
  if one and read(one, 'status')[1] ~= 'running' then redis.call('SREM', slots, one) end
  free[kind] = limit - redis.call('SCARD', slots)
end
local limited = next(free) ~= nil

-- Have a job of a limited kind wait aside until there is a slot.
local function hold(run_id, kind, priority)
  local submitted = read(run_id, 'submitted_at')[1] or NOW
  redis.call('HSET', job_key(run_id), 'entry', 'held ' .. kind)
  redis.call('ZADD', held_key(kind), text(submitted + HANDICAP_MS[priority or 'normal']), run_id)
end

-- Make a job this worker's, if it is `expected`; false where it is not, or is held. `queue` and
-- `id` say where a queued one is.
local function take(run_id, expected, queue, id)
  local job = read(run_id,
    'status', 'spec', 'payload', 'rev', 'attempt', 'checkpoint', 'followed')
  if job[1] ~= expected then return false end
  local said = limited and queue and terms(job[2])
  local kind, slot = said and free[said.kind] and said.kind, {}
  if kind then
    if free[kind] <= 0 then hold(run_id, kind, said.priority) return false end
    free[kind] = free[kind] - 1
    redis.call('SADD', slots_key(kind), run_id)
    slot = { 'entry', queue .. ' ' .. id .. ' ' .. kind }
  end
  local token, attempt = (job[4] or 1) + 1, tonumber(job[5] or 0)
  if expected == 'queued' then attempt = attempt + 1
  else token = running_at(unpack(read(run_id, 'token', 'progressed'))) + 1 end
  redis.call('HSET', job_key(run_id), 'status', 'running', 'token', text(token),
    'attempt', text(attempt), 'worker', worker, 'started_at', NOW, unpack(slot))
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
if ARGV[5] == '1' then
  local known = {}
  for at = 6, #ARGV do known[ARGV[at]] = true end
  for _, name in ipairs(QUEUES) do
    for _, entry in ipairs(entries(queue_key(lane .. ':' .. name), '0', ALL)) do
      local run_id = entry[2] and entry[2][2]
      if run_id and not known[run_id] then take(run_id, 'running') end
    end
  end
end

-- Who waits for a slot that is free now comes first: it had its turn.
for kind, slots in pairs(free) do
  local most = math.min(slots, count)
  local waiting = most > 0 and redis.call('ZPOPMIN', held_key(kind), most) or {}
  for at = 1, #waiting, 2 do
    if read(waiting[at], 'status')[1] == 'queued' then
      redis.call('HSET', job_key(waiting[at]), 'entry', enqueue(waiting[at], lane .. ':returned'))
    end
  end
end

-- So many at most are looked at in one go: those that are held back are no claims.
local looks = count + 256
local function room() return math.min(looks, count - #claims) end

-- Claim up to `most` from a queue; how many it had.
local function claim_from(name, most)
  local queue = lane .. ':' .. name
  local found = entries(queue_key(queue), '>', most)
  looks = looks - #found
  local passed = {}
  for _, entry in ipairs(found) do
    if not take(entry[2][2], 'queued', queue, entry[1]) then passed[#passed + 1] = entry[1] end
  end
  if passed[1] then dequeue(queue, unpack(passed)) end
  return #found
end

-- The priority whose turn it is, and how many of its jobs come before the first of another one.
local function turn()
  local heads = {}
  for name, handicap_ms in pairs(HANDICAP_MS) do
    local stream = queue_key(lane .. ':' .. name)
    if redis.call('XLEN', stream) > 0 then
      local unread = '(' .. last_read(stream)
      local head = redis.call('XRANGE', stream, unread, '+', 'COUNT', 1)[1]
      local ms = head and string.match(head[1], '%d+') + handicap_ms
      if ms then heads[#heads + 1] = { name = name, stream = stream, unread = unread, ms = ms } end
    end
  end
  table.sort(heads, function(one, other) return one.ms < other.ms end)
  local first, second = unpack(heads)
  if not second then return first and first.name, room() end
  local before = text(second.ms - HANDICAP_MS[first.name])
  return first.name, #redis.call('XRANGE', first.stream, first.unread, before, 'COUNT', room())
end

while room() > 0 and claim_from('returned', room()) > 0 do end
while room() > 0 do
  local name, most = turn()
  if not name then break end
  claim_from(name, most)
end

-- What we could not carry is for the next consumer.
if count > 0 and (#claims >= count or looks <= 0) then ring(lane) end
return claims
