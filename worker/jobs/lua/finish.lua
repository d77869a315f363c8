-- End runs: for good, or until a retry is due.
--
-- ARGV: ttl_ms, then for each run
--   run_id, token, status, retry_in_ms, error JSON or '', result or '', progress JSON or ''
-- Returns for each 1; 0 where the token is not the newest: the job belongs to somebody else or has
-- ended otherwise; -1 where its record is spoilt. To finish twice under the same token is to finish
-- once.

local FIELDS = 7
local ttl_ms = ARGV[1]
local answers, done = {}, {}

local function finish(at)
  local run_id, token, status = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local error_json, result, progress = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local job = redis.pcall('HMGET', job_key(run_id),
    'token', 'status', 'progressed', 'entry', 'attempt', 'followed', 'unique')
  if job.err then return -1 end
  if job[1] ~= token then return 0 end
  if job[2] ~= 'running' then return job[2] == status and 1 or 0 end
  local rev, attempt, followed = running_at(token, job[3]) + 1, job[5], job[6]
  local more = {}
  if progress ~= '' then
    more = { 'progress', progress, 'progressed', text(rev) }
    tell(followed, run_id, rev, 'progress', progress)
    rev = rev + 1
  end
  -- A completed job has no error; one of an earlier attempt goes.
  if error_json ~= '' or (status == 'completed' and attempt ~= '1') then
    more[#more + 1] = 'error'
    more[#more + 1] = error_json
  end
  local queue, entry, limited = place(job[4])
  free_slot(run_id, queue, limited)
  done[queue] = done[queue] or {}
  table.insert(done[queue], entry)
  if status == 'scheduled' then
    redis.call('HSET', job_key(run_id), 'status', status, 'rev', text(rev), 'since', NOW,
      'worker', '', unpack(more))
    tell_status(followed, run_id, rev, status, attempt)
    schedule(run_id, now + ARGV[at + 3])
    return 1
  end
  if result ~= '' then
    more[#more + 1] = 'result'
    more[#more + 1] = result
  end
  conclude(run_id, attempt, followed, job[7], rev, status, ttl_ms, more)
  return 1
end

for at = 2, #ARGV, FIELDS do answers[#answers + 1] = finish(at) end
for queue, entries in pairs(done) do dequeue_many(queue, entries) end
await_archive()
return answers
