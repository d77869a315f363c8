-- Queue the scheduled jobs that are due.
--
-- ARGV: the most to promote in one go
-- Returns { how many, ms at which the next one is due or '', ms of Redis's clock }

local due = prefix .. 'due'
local ready = redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local woken = {}
for _, run_id in ipairs(ready) do
  redis.call('ZREM', due, run_id)
  local job = read(run_id, 'status', 'kind', 'spec', 'rev', 'attempt', 'followed')
  if job[1] == 'scheduled' then
    local lane, priority = terms(job[3])
    local queue, rev = lane .. ':' .. priority, (job[4] or 1) + 1
    unlist(job[2], 'scheduled', run_id)
    redis.call('HSET', job_key(run_id), 'status', 'queued', 'rev', text(rev), 'since', NOW,
      'queue', queue, 'entry', enqueue(run_id, queue))
    tell_status(job[6], run_id, rev, 'queued', job[5])
    woken[lane] = true
  end
end
for lane in pairs(woken) do ring(lane) end
local next_due = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
return { #ready, next_due[2] or '', now }
