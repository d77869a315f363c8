-- End runs: for good, or until a retry is due.
--
-- ARGV: ttl_ms, then for each run
--   run_id, token, status, retry_in_ms, error JSON or '', result or '', progress JSON or ''
-- Returns for each '1', or '0' where the token is not the newest: the job belongs to somebody else
-- or has ended otherwise. To finish twice under the same token is to finish once.

local FIELDS = 7
local ttl_ms = ARGV[1]
local answers = {}
local ended = {}

local function finish(at)
  local run_id, token, status = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local error_json, result, progress = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local key = job_key(run_id)
  local job = redis.call('HMGET', key, 'token', 'status', 'kind', 'lane', 'queue', 'entry', 'attempt')
  if job[1] ~= token then return '0' end
  if job[2] ~= 'running' then return job[2] == status and '1' or '0' end
  if progress ~= '' then redis.call('HSET', key, 'progress', progress) end
  dequeue(job[4], job[5], job[6])
  if status == 'scheduled' then
    if error_json ~= '' then redis.call('HSET', key, 'error', error_json) end
    redis.call('HDEL', key, 'worker')
    move(run_id, job[3], 'running', 'scheduled')
    emit_status(key, run_id, 'scheduled', job[7])
    schedule(run_id, now + ARGV[at + 3])
    return '1'
  end
  if status == 'completed' then redis.call('HDEL', key, 'error') end
  if result ~= '' then redis.call('SET', key .. ':result', result, 'PX', ttl_ms) end
  conclude(run_id, { kind = job[3], attempt = job[7] }, 'running', status, ttl_ms, error_json)
  ended[job[3] .. '\n' .. status] = { job[3], status }
  return '1'
end

for at = 2, #ARGV, FIELDS do answers[#answers + 1] = finish(at) end
for _, index in pairs(ended) do trim(index[1], index[2]) end
return answers
