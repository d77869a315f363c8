-- Give runs back, uncharged: they go to the head of the line. The next claim makes a new token, and
-- until then they do not run, so a late finish of the old one is refused.
--
-- ARGV: ttl_ms, drained ('1' counts as a drain requeue), then for each run
--   run_id, token, checkpoint or ''
-- Returns for each 1; 0 where the token is not the newest; -1 where its record is spoilt.

local FIELDS = 3
local ttl_ms, drained = ARGV[1], ARGV[2]
local answers, woken = {}, {}

local function requeue(at)
  local run_id, token, checkpoint = ARGV[at], ARGV[at + 1], ARGV[at + 2]
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
  woken[lane] = true
  return 1
end

for at = 3, #ARGV, FIELDS do answers[#answers + 1] = requeue(at) end
for lane in pairs(woken) do ring(lane) end
await_archive()
return answers
