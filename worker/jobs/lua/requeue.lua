-- Give runs back, uncharged: they go to the head of the line, under a new token, so that a late
-- finish of the old one is refused.
--
-- ARGV: ttl_ms, drained ('1' counts as a drain requeue), then for each run
--   run_id, token, checkpoint or ''
-- Returns for each '1', or '0' where the token is not the newest.

local FIELDS = 3
local ttl_ms, drained = ARGV[1], ARGV[2]
local answers = {}

local function requeue(at)
  local run_id, token, checkpoint = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local key = job_key(run_id)
  local job = redis.call('HMGET', key,
    'token', 'status', 'kind', 'lane', 'queue', 'entry', 'cancel', 'attempt')
  if job[1] ~= token or job[2] ~= 'running' then return '0' end
  dequeue(job[4], job[5], job[6])
  if job[7] then
    conclude(run_id, { kind = job[3], attempt = job[8] }, 'running', 'cancelled', ttl_ms, '')
    return '1'
  end
  local attempt = job[8] - 1
  redis.call('HSET', key, 'token', token + 1, 'attempt', attempt)
  if drained == '1' then redis.call('HINCRBY', key, 'drain_requeues', 1) end
  redis.call('HDEL', key, 'worker')
  if checkpoint ~= '' then redis.call('SET', key .. ':checkpoint', checkpoint) end
  move(run_id, job[3], 'running', 'queued')
  emit_status(key, run_id, 'queued', attempt)
  enqueue(run_id, job[4], 'returned')
  return '1'
end

for at = 3, #ARGV, FIELDS do answers[#answers + 1] = requeue(at) end
return answers
