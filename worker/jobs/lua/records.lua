-- What every script of the job engine shares. Put in front of each of them.
--
-- KEYS[1] is the prefix of all keys, `drawbridge:{jobs}:` or that of a shard,
-- `drawbridge:{jobs:1}:`; its hash tag routes the script.
-- Time is Redis's own, in milliseconds, so that a worker's wrong clock can harm nothing.
--
-- A job is one hash. Revisions count what has happened to it, from 1, and number its events: the
-- newest claim was `token`, the newest progress `progressed`, the newest other change `rev`, which
-- is left out while it is 1. So a running job is at the greater of the former two, any other at `rev`.
--
-- What a call of Redis costs grows with its fields, most of all where they go into a log file: a
-- transition reads with one HMGET and writes with one HSET what it must.

local prefix = KEYS[1]
local QUEUES = { 'returned', 'high', 'normal', 'low' }
local LANES = { 'cpu', 'io' }
local LIVE = { queued = true, scheduled = true, running = true }
local GROUP = 'workers'

-- What is more urgent goes first, and yet nobody waits for ever: a job counts as if it had come
-- this much later for each step that its priority is below `high`.
local PATIENCE_MS = 30000
local HANDICAP_MS = { high = 0, normal = PATIENCE_MS, low = 2 * PATIENCE_MS }

-- A whole number as text: Redis takes microseconds to print a number that Lua hands it.
local function text(number) return string.format('%d', number) end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local NOW = text(now)

local function job_key(run_id) return prefix .. 'job:' .. run_id end
local function queue_key(queue) return prefix .. 'queue:' .. queue end

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

-- The fields of a job, in order; false for each where there is no such job or no record at its key.
local function read(run_id, ...)
  local found = redis.pcall('HMGET', job_key(run_id), ...)
  return found.err and {} or found
end

-- What the submission said; what it left out is its default, everything where it is spoilt.
local function terms(spec)
  local good, said = pcall(cjson.decode, spec or '')
  return good and type(said) == 'table' and said or {}
end

-- The revision of a running job.
local function running_at(token, progressed)
  return math.max(tonumber(token), tonumber(progressed or 0))
end

-- Tell who follows the job what its revision `rev` is. Nobody does, mostly.
local function tell(followed, run_id, rev, kind, data)
  if followed then
    redis.call('PUBLISH', job_key(run_id) .. ':events', text(rev) .. '\n' .. kind .. '\n' .. data)
  end
end

local function tell_status(followed, run_id, rev, status, attempt)
  if followed then
    tell(followed, run_id, rev, 'status', string.format(
      '{"run_id":"%s","status":"%s","attempt":%d,"at_ms":%d}', run_id, status, attempt or 0, now))
  end
end

local function tell_end(followed, run_id, rev, status)
  if followed then
    tell(followed, run_id, rev, 'end', string.format(
      '{"run_id":"%s","status":"%s","at_ms":%d}', run_id, status, now))
  end
end

-- Enter a job into the listing by status, of the few that are scheduled, failed or cancelled, or
-- take it out. One whose spec is spoilt is in none.
local function list(run_id, status, enter)
  local kind = terms(redis.call('HGET', job_key(run_id), 'spec')).kind
  if not kind then return end
  local index = prefix .. 'index:' .. kind .. ':' .. status
  if enter then redis.call('ZADD', index, 0, run_id) else redis.call('ZREM', index, run_id) end
end

-- One element at most lies on a bell; a waiting consumer takes it at once.
local function ring(lane)
  local bell = prefix .. 'bell:' .. lane
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

-- Put a job into a queue (`lane:name`); where it is then, for its `entry`. Who calls this rings the
-- bell.
local function enqueue(run_id, queue)
  return queue .. ' ' .. redis.call('XADD', queue_key(queue), '*', 'job', run_id)
end

-- A job's `entry` says where it is: its queue, its id there, and while it takes a slot of a limited
-- kind, that kind, else ''. One that waits for such a slot is `held`, and its id there is the kind.
local function place(entry) return string.match(entry or '', '^(%S+) (%S+) ?(%S*)$') end

-- What the consumer group of a stream has in `field`; nil where nobody has read from it yet.
local function of_group(stream, field)
  for _, group in ipairs(redis.pcall('XINFO', 'GROUPS', stream)) do
    for at = 1, #group, 2 do
      if group[at] == field then return group[at + 1] end
    end
  end
end

-- The id of the entry of a stream that was handed out last.
local function last_read(stream) return of_group(stream, 'last-delivered-id') or '0-0' end

-- Trim what lies before the oldest entry that is still held, or was not yet read; that entry.
local function trim(stream)
  local before = (redis.pcall('XPENDING', stream, GROUP, '-', '+', 1)[1] or {})[1]
  if not before then
    local ms, number = string.match(last_read(stream), '(%d+)-(%d+)')
    before = ms .. '-' .. text(number + 1)
  end
  redis.call('XTRIM', stream, 'MINID', before)
  return before
end

-- Take entries out of a queue, whoever holds them.
local function dequeue(queue, ...)
  local stream = queue_key(queue)
  redis.call('XACK', stream, GROUP, ...)
  redis.call('XDEL', stream, ...)
  trim(stream)
end

-- The same for many that were held. To trim costs a fraction of deleting one by one; only what was
-- queued long after the oldest one that is held is deleted, lest a long run keep all that comes
-- after it.
local FAR_MS = 1000
local function dequeue_many(queue, entries)
  local stream = queue_key(queue)
  redis.call('XACK', stream, GROUP, unpack(entries))
  local before = trim(stream)
  local oldest, far = tonumber(string.match(before, '%d+')), {}
  for _, entry in ipairs(entries) do
    if string.match(entry, '%d+') - oldest > FAR_MS then far[#far + 1] = entry end
  end
  if far[1] then redis.call('XDEL', stream, unpack(far)) end
end

-- Limited kinds: the runs that take the slots of one, and the jobs that wait for a slot.
local function slots_key(kind) return prefix .. 'slots:' .. kind end
local function held_key(kind) return prefix .. 'held:' .. kind end

-- The slot of a run that ends; where jobs wait for one, somebody is to look.
local function free_slot(run_id, queue, kind)
  if (kind or '') == '' then return end
  redis.call('SREM', slots_key(kind), run_id)
  if redis.call('EXISTS', held_key(kind)) == 1 then ring(string.match(queue, '^[^:]+')) end
end

-- Hold a job back until `due`; tell the timers if that is the earliest.
local function schedule(run_id, due)
  list(run_id, 'scheduled', true)
  redis.call('ZADD', prefix .. 'due', due, run_id)
  if redis.call('ZRANGE', prefix .. 'due', 0, 0)[1] == run_id then
    redis.call('PUBLISH', prefix .. 'due', due)
  end
end

-- Unique jobs: the one live job that has a key, named by its digest.
local function unique_key(digest) return prefix .. 'unique:' .. digest end

-- Make a job the one that has a unique key, unless a live one has it: then that one's run id,
-- status, submission and spec. A key whose job was spoilt is anybody's.
local function take_unique(digest, run_id)
  local holder = redis.call('GET', unique_key(digest))
  local found = holder and holder ~= run_id and read(holder, 'status', 'submitted_at', 'spec') or {}
  if LIVE[found[1]] then return { holder, unpack(found) } end
  redis.call('SET', unique_key(digest), run_id)
end

-- The ULID of a moment, its rest made from `seed`: the same seed gives the same id. Where there are
-- shards, its last character is the number of this one.
local BASE32 = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
local function id_at(ms, seed)
  local id, hash = '', redis.sha1hex(seed)
  for _ = 1, 10 do
    local digit = ms % 32
    id = string.sub(BASE32, digit + 1, digit + 1) .. id
    ms = (ms - digit) / 32
  end
  for at = 1, 31, 2 do
    local digit = tonumber(string.sub(hash, at, at + 1), 16) % 32
    id = id .. string.sub(BASE32, digit + 1, digit + 1)
  end
  local shard = string.match(prefix, '{jobs:(%d+)}')
  return shard and string.sub(id, 1, 25) .. string.sub(BASE32, shard + 1, shard + 1) or id
end

-- Queue a job that nobody submits, whatever the flags are: it is claimed when the bridge is down.
-- `spec` and `payload` are JSON.
local function make(run_id, spec, payload)
  local key, said = job_key(run_id), terms(spec)
  if redis.call('EXISTS', key) == 1 then return end
  local lane = said.lane or 'io'
  local entry = enqueue(run_id, lane .. ':' .. (said.priority or 'normal'))
  redis.call('HSET', key, 'status', 'queued', 'submitted_at', NOW, 'spec', spec,
    'payload', '\0' .. payload, 'entry', entry)
  redis.call('ZADD', prefix .. 'index:' .. said.kind, 0, run_id)
  redis.call('SADD', prefix .. 'kinds', said.kind)
  ring(lane)
end

-- A job that ended has its callback made in the same step, if it asked for one. What is told of it
-- goes along: its record may have expired by the time of the last attempt.
local TOLD = { 'spec', 'status', 'submitted_at', 'started_at', 'finished_at', 'attempt', 'progress',
  'error', 'worker', 'drain_requeues' }
local CALLBACK_ATTEMPTS = 10
local function call_back(run_id, rev)
  local told = read(run_id, unpack(TOLD))
  local said = terms(told[1])
  if not said.callback_url then return end
  local fields = {}
  for at, name in ipairs(TOLD) do fields[name] = told[at] or nil end
  make(id_at(now, run_id .. ':' .. text(rev)),
    cjson.encode({ kind = 'callback', lane = 'io', priority = 'normal', parent = run_id,
      max_attempts = CALLBACK_ATTEMPTS, correlation_id = said.correlation_id,
      submitted_by = said.submitted_by, traceparent = said.traceparent }),
    cjson.encode({ run_id = run_id, url = said.callback_url, fields = fields }))
end

-- Jobs that ended in this call wait to be archived; whoever calls conclude calls this in the end.
local ended = {}
local function await_archive()
  for at = 1, #ended, 1000 do
    redis.call('ZADD', prefix .. 'ended', unpack(ended, at, math.min(at + 999, #ended)))
  end
end

-- The end of a job at revision `rev`, and with `more` fields: nothing stays longer than `ttl_ms`,
-- and its `unique` key is free.
local function conclude(run_id, attempt, followed, unique, rev, status, ttl_ms, more)
  local key = job_key(run_id)
  if unique then redis.call('DEL', unique_key(unique)) end
  redis.call('HSET', key, 'status', status, 'rev', text(rev + 1), 'finished_at', NOW, unpack(more))
  -- A failed job keeps its payload, so that it can be run again.
  if status == 'failed' then redis.call('HDEL', key, 'checkpoint')
  else redis.call('HDEL', key, 'payload', 'checkpoint') end
  redis.call('PEXPIRE', key, ttl_ms)
  if status ~= 'completed' then list(run_id, status, true) end
  ended[#ended + 1] = NOW
  ended[#ended + 1] = run_id
  tell_status(followed, run_id, rev, status, attempt)
  tell_end(followed, run_id, rev + 1, status)
  if followed then call_back(run_id, rev) end -- accept.lua marks those that want one as followed
end
