-- Queue the scheduled jobs that are due.
--
-- ARGV: the most to promote in one go
-- Returns { how many, ms at which the next one is due or '', ms of Redis's clock }

local due = prefix .. 'due'
local ready = redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local woken = {}
for _, run_id in ipairs(ready) do
  redis.call('ZREM', due, run_id)
  local job = read(run_id, 'status', 'spec', 'rev', 'attempt', 'followed')
  if job[1] == 'scheduled' then
    local said, rev = terms(job[2]), (job[3] or 1) + 1
    local lane = said.lane or 'io'
    list(run_id, 'scheduled', false)
    redis.call('HSET', job_key(run_id), 'status', 'queued', 'rev', text(rev), 'since', NOW,
      'entry', enqueue(run_id, lane .. ':' .. (said.priority or 'normal')))
    tell_status(job[5], run_id, rev, 'queued', job[4])
    woken[lane] = true
  end
end
for lane in pairs(woken) do ring(lane) end
local next_due = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
return { #ready, next_due[2] or '', now }
