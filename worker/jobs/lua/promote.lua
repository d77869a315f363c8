-- Queue the scheduled jobs that are due.
--
-- ARGV: the most to promote in one go
-- Returns { how many, ms at which the next one is due or '', ms of Redis's clock }

local due = prefix .. 'due'
local ready = redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, run_id in ipairs(ready) do
  redis.call('ZREM', due, run_id)
  local job = redis.call('HMGET', job_key(run_id), 'status', 'kind', 'lane', 'priority', 'attempt')
  if job[1] == 'scheduled' then
    move(run_id, job[2], 'scheduled', 'queued')
    emit_status(job_key(run_id), run_id, 'queued', job[5])
    enqueue(run_id, job[3], job[4])
  end
end
local next_due = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
return { #ready, next_due[2] or '', now }
