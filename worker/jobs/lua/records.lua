-- What every script of the job engine shares. Put in front of each of them.
--
-- KEYS[1] is the prefix of all keys, `drawbridge:{jobs}:`; its hash tag routes the script.
-- Time is Redis's own, in milliseconds, so that a worker's wrong clock can harm nothing.

local prefix = KEYS[1]
local QUEUES = { 'returned', 'high', 'normal', 'low' }
local LANES = { 'cpu', 'io' }
local GROUP = 'workers'
local EVENTS_KEPT = 256

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function job_key(run_id) return prefix .. 'job:' .. run_id end
local function queue_key(lane, name) return prefix .. 'queue:' .. lane .. ':' .. name end
local function index_key(kind, status) return prefix .. 'index:' .. kind .. ':' .. status end

-- Other writers leave "False", "off" or "true" in the flags; such words mean what they say.
-- control.flags.document.redis_value_to_bool reads the same way.
local MEANS = {
  ['1'] = true, ['true'] = true, ['on'] = true, ['yes'] = true, t = true, y = true,
  ['0'] = false, ['false'] = false, off = false, no = false, f = false, n = false,
  [''] = false, none = false, null = false,
}

-- The gate: the projected flag decides inside the script, so nothing slips between check and act.
-- nil while work may pass, 'closed' while the bridge is up in whichever mode, 'unknown' where Redis
-- does not tell (emptied, not projected yet, or spoilt): who does not know lets nothing pass.
local function bridge_is_up()
  local told = redis.pcall('HGET', prefix .. 'flags', 'app_maintenance')
  if type(told) ~= 'string' then return 'unknown' end
  local word = string.match(told, '^%s*(.-)%s*$')
  local up = MEANS[string.lower(string.match(word, '^["\']*(.-)["\']*$'))]
  if up == nil then return 'unknown' end
  return up and 'closed' or nil
end

-- Append to the job's events and tell whoever follows it. A list of small texts, not a stream: a
-- stream takes 4 KiB for its first entry, and a day's jobs are many. Events are numbered from 1 by
-- their place; `dropped` counts those that the list no longer holds.
local function emit(key, kind, data)
  local events = key .. ':events'
  local text = kind .. '\n' .. data
  local number = redis.call('RPUSH', events, text)
  if number >= EVENTS_KEPT then
    number = number + (redis.call('HGET', key, 'dropped') or 0)
    redis.call('LPOP', events)
    redis.call('HINCRBY', key, 'dropped', 1)
  end
  redis.call('PUBLISH', events, number .. '\n' .. text)
end

local function emit_status(key, run_id, status, attempt)
  emit(key, 'status', string.format(
    '{"run_id":"%s","status":"%s","attempt":%d,"at_ms":%d}', run_id, status, attempt, now))
end

-- The job's place in the listing. Its record's `status` is the caller's to set.
local function move(run_id, kind, from, to)
  if from then redis.call('ZREM', index_key(kind, from), run_id) end
  redis.call('ZADD', index_key(kind, to), 0, run_id)
end

-- One element at most lies on a bell; a waiting consumer takes it at once.
local function ring(lane)
  local bell = prefix .. 'bell:' .. lane
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

-- Put a job into a queue of its lane, as queued, and wake one consumer.
local function enqueue(run_id, lane, name)
  local entry = redis.call('XADD', queue_key(lane, name), '*', 'job', run_id)
  redis.call('HSET', job_key(run_id), 'status', 'queued', 'queue', name, 'entry', entry)
  ring(lane)
end

-- Take a job's entry out of its queue, whoever holds it.
local function dequeue(lane, name, entry)
  local stream = queue_key(lane, name)
  redis.call('XACK', stream, GROUP, entry)
  redis.call('XDEL', stream, entry)
end

-- Hold a job back until `due`, as scheduled; tell the timers if that is the earliest.
local function schedule(run_id, due)
  redis.call('HSET', job_key(run_id), 'status', 'scheduled')
  redis.call('ZADD', prefix .. 'due', due, run_id)
  if redis.call('ZRANGE', prefix .. 'due', 0, 0)[1] == run_id then
    redis.call('PUBLISH', prefix .. 'due', due)
  end
end

-- Members of an index whose records have expired leave it, a few at each batch of ends.
local function trim(kind, status)
  local index = index_key(kind, status)
  for _, run_id in ipairs(redis.call('ZRANGE', index, 0, EVENTS_KEPT)) do
    if redis.call('EXISTS', job_key(run_id)) == 1 then return end
    redis.call('ZREM', index, run_id)
  end
end

-- The end of a job: nothing of it stays longer than `ttl_ms`. `job` says its kind and attempt.
local function conclude(run_id, job, from, status, ttl_ms, error_json)
  local key = job_key(run_id)
  move(run_id, job.kind, from, status)
  if error_json ~= '' then
    redis.call('HSET', key, 'status', status, 'finished_at', now, 'error', error_json)
  else
    redis.call('HSET', key, 'status', status, 'finished_at', now)
  end
  -- A failed job keeps its payload, so that it can be run again.
  if status == 'failed' then
    redis.call('DEL', key .. ':checkpoint')
    redis.call('PEXPIRE', key .. ':payload', ttl_ms)
  else
    redis.call('DEL', key .. ':checkpoint', key .. ':payload')
  end
  emit_status(key, run_id, status, job.attempt)
  emit(key, 'end', string.format('{"run_id":"%s","status":"%s","at_ms":%d}', run_id, status, now))
  redis.call('PEXPIRE', key, ttl_ms)
  redis.call('PEXPIRE', key .. ':events', ttl_ms)
end
