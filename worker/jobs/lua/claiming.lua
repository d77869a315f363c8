-- How jobs become a worker's. Put behind records.lua where that is needed.

-- The entries of a stream for `worker`: with `from` '>' new ones, with '0' those that it has. Each is
-- { id, { 'job', run_id } }; an entry without a body was deleted by a cancel.
local function entries(worker, stream, from, most)
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

-- How many more of each limited kind may run. A run whose record somebody spoilt would keep its
-- slot for ever, so each time one of them is looked at, whichever.
local function room_of(limits)
  local free = {}
  if limits == '{}' then return free end
  for kind, limit in pairs(cjson.decode(limits)) do
    local slots = slots_key(kind)
    local one = redis.call('SRANDMEMBER', slots)
    if one and read(one, 'status')[1] ~= 'running' then redis.call('SREM', slots, one) end
    free[kind] = limit - redis.call('SCARD', slots)
  end
  return free
end

-- Have a job of a limited kind wait aside until there is a slot.
local function hold(run_id, kind, priority)
  local submitted = read(run_id, 'submitted_at')[1] or NOW
  redis.call('HSET', job_key(run_id), 'entry', 'held ' .. kind)
  redis.call('ZADD', held_key(kind), text(submitted + HANDICAP_MS[priority or 'normal']), run_id)
end

-- Who waits for a slot that is free now comes first: it had its turn.
local function let_in(lane, free, count)
  for kind, slots in pairs(free) do
    local most = math.min(slots, count)
    local waiting = most > 0 and redis.call('ZPOPMIN', held_key(kind), most) or {}
    for at = 1, #waiting, 2 do
      if read(waiting[at], 'status')[1] == 'queued' then
        redis.call('HSET', job_key(waiting[at]), 'entry', enqueue(waiting[at], lane .. ':returned'))
      end
    end
  end
end

-- The priority whose turn it is, and how many of its jobs, `room` at most, come before the first of
-- another one.
local function turn(lane, room)
  local filled = {}
  for name in pairs(HANDICAP_MS) do
    if redis.call('XLEN', queue_key(lane .. ':' .. name)) > 0 then filled[#filled + 1] = name end
  end
  if #filled < 2 then return filled[1], room end
  local heads = {}
  for _, name in ipairs(filled) do
    local stream = queue_key(lane .. ':' .. name)
    local unread = '(' .. last_read(stream)
    local head = redis.call('XRANGE', stream, unread, '+', 'COUNT', 1)[1]
    local ms = head and string.match(head[1], '%d+') + HANDICAP_MS[name]
    if ms then heads[#heads + 1] = { name = name, stream = stream, unread = unread, ms = ms } end
  end
  table.sort(heads, function(one, other) return one.ms < other.ms end)
  local first, second = unpack(heads)
  if not second then return first and first.name, room end
  local before = text(second.ms - HANDICAP_MS[first.name])
  return first.name, #redis.call('XRANGE', first.stream, first.unread, before, 'COUNT', room)
end

local ALL = 16384 -- more than a worker has slots

-- Make up to `count` jobs of a lane the worker's, as claim.lua describes them; and whether more may
-- wait. `known`: see its resync.
local function claim(worker, lane, count, limits, known)
  local claims, free = {}, room_of(limits)
  local limited = next(free) ~= nil

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

  for _, name in ipairs(known and QUEUES or {}) do
    for _, entry in ipairs(entries(worker, queue_key(lane .. ':' .. name), '0', ALL)) do
      local run_id = entry[2] and entry[2][2]
      if run_id and not known[run_id] then take(run_id, 'running') end
    end
  end
  let_in(lane, free, count)

  -- So many at most are looked at in one go: those that are held back are no claims.
  local looks = count + 256
  local function room() return math.min(looks, count - #claims) end

  -- Claim up to `most` from a queue; how many it had.
  local function claim_from(name, most)
    local queue = lane .. ':' .. name
    local found = entries(worker, queue_key(queue), '>', most)
    looks = looks - #found
    local passed = {}
    for _, entry in ipairs(found) do
      if not take(entry[2][2], 'queued', queue, entry[1]) then passed[#passed + 1] = entry[1] end
    end
    if passed[1] then dequeue(queue, unpack(passed)) end
    return #found
  end

  local function returned() return redis.call('XLEN', queue_key(lane .. ':returned')) > 0 end
  while room() > 0 and returned() and claim_from('returned', room()) > 0 do end
  while room() > 0 do
    local name, most = turn(lane, room())
    if not name or claim_from(name, most) == 0 then break end
  end
  return claims, room() <= 0
end
