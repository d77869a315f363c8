-- Accept jobs, unless the bridge is up.
--
-- ARGV: ttl_ms of idempotency keys, then for each job
--   run_id, kind, lane, priority, max_attempts, run_at_ms or '', key digest or '', body digest,
--   spec, payload
-- Returns 'closed' or 'unknown' (see bridge_is_up), or for each job its answer: 'created',
-- 'conflict', or the run id of the job that the same key made before. A job that is already there
-- under this run id counts as created, so a submission whose answer was lost may be repeated.

local shut = bridge_is_up()
if shut then return shut end

local FIELDS = 10
local key_ttl_ms = ARGV[1]
local answers = {}
local kinds = {}

local function accept(at)
  local run_id, kind, lane, priority = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local max_attempts, run_at = ARGV[at + 4], ARGV[at + 5]
  local key_digest, body_digest = ARGV[at + 6], ARGV[at + 7]
  local key = job_key(run_id)
  if redis.call('EXISTS', key) == 1 then return 'created' end
  if key_digest ~= '' then
    local idem = prefix .. 'idem:' .. key_digest
    local first = redis.call('HMGET', idem, 'run_id', 'body')
    if first[1] and redis.call('EXISTS', job_key(first[1])) == 1 then
      return first[2] == body_digest and first[1] or 'conflict'
    end
    redis.call('HSET', idem, 'run_id', run_id, 'body', body_digest)
    redis.call('PEXPIRE', idem, key_ttl_ms)
  end
  local waits = run_at ~= '' and tonumber(run_at) > now
  local status = waits and 'scheduled' or 'queued'
  redis.call('HSET', key, 'kind', kind, 'lane', lane, 'priority', priority,
    'max_attempts', max_attempts, 'spec', ARGV[at + 8], 'submitted_at', now,
    'attempt', 0, 'token', 0)
  redis.call('SET', key .. ':payload', ARGV[at + 9])
  kinds[kind] = true
  move(run_id, kind, nil, status)
  emit_status(key, run_id, status, 0)
  if waits then schedule(run_id, run_at) else enqueue(run_id, lane, priority) end
  return 'created'
end

for at = 2, #ARGV, FIELDS do answers[#answers + 1] = accept(at) end
for kind in pairs(kinds) do redis.call('SADD', prefix .. 'kinds', kind) end
return answers
