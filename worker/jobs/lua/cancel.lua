-- Cancel a job: at once while it waits; a running one is marked, and its worker told.
--
-- ARGV: ttl_ms, run_id
-- Returns the job's status afterwards, with whether that is this call's doing:
--   { 'cancelled', '1' }, { 'running', '1' }, { status of a job that had ended, '0' }, or false

local ttl_ms, run_id = ARGV[1], ARGV[2]
local key = job_key(run_id)
local job = redis.call('HMGET', key, 'status', 'entry', 'attempt', 'rev', 'followed', 'unique')
local status = job[1]
if not status then return false end
if status == 'running' then
  redis.call('HSET', key, 'cancel', '1')
  redis.call('PUBLISH', prefix .. 'cancel', run_id)
  return { status, '1' }
end
if status == 'queued' then
  local queue, id = place(job[2])
  if queue == 'held' then redis.call('ZREM', held_key(id), run_id) else dequeue(queue, id) end
elseif status == 'scheduled' then
  redis.call('ZREM', prefix .. 'due', run_id)
  list(run_id, status, false)
else return { status, '0' } end
conclude(run_id, job[3], job[5], job[6], (job[4] or 1) + 1, 'cancelled', ttl_ms, {})
await_archive()
return { 'cancelled', '1' }
