-- What every script of the job engine shares. Put in front of each of them; some need more of what
-- lies beside this: making.lua, ending.lua or claiming.lua.
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
local function meant(told)
  local word = string.match(told, '^%s*(.-)%s*$')
  local means = {
    ['1'] = true, ['true'] = true, ['on'] = true, ['yes'] = true, t = true, y = true,
    ['0'] = false, ['false'] = false, off = false, no = false, f = false, n = false,
    [''] = false, none = false, null = false,
  }
  return means[string.lower(string.match(word, '^["\']*(.-)["\']*$'))]
end

-- The gate: the projected flag decides inside the script, so nothing slips between check and act.
-- nil while work may pass, 'closed' while the bridge is up in whichever mode, 'unknown' where Redis
-- does not tell (emptied, not projected yet, or spoilt): who does not know lets nothing pass.
local function bridge_is_up()
  local flags = redis.pcall('HMGET', prefix .. 'flags', 'app_maintenance')
  local told = flags[1]
  if told == '0' then return nil end -- as the control plane writes it
  local up = told and meant(told)
  if not told or up == nil then return 'unknown' end
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

-- Offers: what a worker says when it found nothing more to claim, and so waits to be called. Each
-- has one for a lane at most, and each is good for one call, on a channel that the worker listens on:
-- `number LF`, to have it claim, or with a job that was claimed for it (see accept.lua) behind that.
-- An offer is `number direct limits`; `direct` says whether it takes such jobs.
local function offers_key(lane) return prefix .. 'offers:' .. lane end
local function call_channel(lane, worker) return prefix .. 'call:' .. lane .. ':' .. worker end

local function offer(lane, worker, number, direct, limits)
  redis.call('HSET', offers_key(lane), worker, number .. ' ' .. direct .. ' ' .. limits)
end

local function withdraw(lane, worker) redis.call('HDEL', offers_key(lane), worker) end

-- Take an offer, whosever: the worker, its channel, the number, whether it takes jobs, its limits; nil
-- where there is none. Who listens no longer is passed over. (That is not told by how many a message
-- reaches: somebody may listen to everything.)
local function taken_offer(lane)
  while true do
    local found = redis.call('HRANDFIELD', offers_key(lane), 1, 'WITHVALUES')
    local worker = found[1]
    if not worker then return end
    withdraw(lane, worker)
    local channel = call_channel(lane, worker)
    if redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0 then
      local number, direct, limits = string.match(found[2], '^(%d+) ([01]) (.*)$')
      return worker, channel, number or '0', direct, limits
    end
  end
end

-- A job that was brought with a call is in `handed` as `run_id token` until the worker has said that
-- it came. Where it stands still, or its link is broken, the others need not wait for its lease: who
-- reads a call that late starts nothing (CALL_GOOD_S in consumer.py).
local handed = prefix .. 'handed'
local UNSAID_MS = 4000

-- Have one worker that waits look.
local function ring(lane)
  local _, channel, number = taken_offer(lane)
  if channel then redis.call('PUBLISH', channel, number .. '\n') end
end

-- Put a job into a queue (`lane:name`); where it is then, for its `entry`. Who calls this rings.
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

-- Limited kinds: the runs that take the slots of one, and the jobs that wait for a slot.
local function slots_key(kind) return prefix .. 'slots:' .. kind end
local function held_key(kind) return prefix .. 'held:' .. kind end

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
