-- How runs and jobs end. Put behind making.lua where that is needed.

-- Take many entries that were held out of a queue, as dequeue does. To trim costs a fraction of
-- deleting one by one; only what was queued long after the oldest one that is held is deleted, lest
-- a long run keep all that comes after it.
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

-- The slot of a run that ends; where jobs wait for one, somebody is to look.
local function free_slot(run_id, queue, kind)
  if (kind or '') == '' then return end
  redis.call('SREM', slots_key(kind), run_id)
  if redis.call('EXISTS', held_key(kind)) == 1 then ring(string.match(queue, '^[^:]+')) end
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

-- Give a run back, uncharged, as requeue.lua says; what that answers, and the lane in which the job
-- waits again if it does. A job that is to be cancelled ends here.
local function give_back(run_id, token, checkpoint, drained, ttl_ms)
  local job = redis.pcall('HMGET', job_key(run_id), 'token', 'status', 'progressed', 'entry',
    'attempt', 'followed', 'cancel', 'drain_requeues', 'unique')
  if job.err then return -1 end
  if job[1] ~= token or job[2] ~= 'running' then return 0 end
  local rev, attempt, followed = running_at(token, job[3]) + 1, job[5] - 1, job[6]
  local queue, entry, limited = place(job[4])
  dequeue(queue, entry)
  free_slot(run_id, queue, limited)
  if job[7] then
    conclude(run_id, job[5], followed, job[9], rev, 'cancelled', ttl_ms, {})
    return 1
  end
  local lane = string.match(queue, '^[^:]+')
  local more = {}
  if checkpoint ~= '' then more = { 'checkpoint', checkpoint } end
  redis.call('HSET', job_key(run_id), 'status', 'queued', 'rev', text(rev),
    'attempt', text(attempt), 'drain_requeues', text((job[8] or 0) + drained),
    'worker', '', 'since', NOW, 'entry', enqueue(run_id, lane .. ':returned'), unpack(more))
  tell_status(followed, run_id, rev, 'queued', attempt)
  return 1, lane
end
