-- Run a failed job again under its own id, with all its attempts anew, unless the bridge is up. Its
-- revisions go on, so whoever ran it before is refused.
--
-- ARGV: run_id
-- Returns 'closed' or 'unknown' (see bridge_is_up); false where there is no such job; or
--   { its status now, '1' where that is this call's doing, the live job with its unique key or '' }

local shut = bridge_is_up()
if shut then return shut end

local run_id = ARGV[1]
local key = job_key(run_id)
local job = read(run_id, 'status', 'spec', 'rev', 'followed', 'unique')
local status, spec, rev, followed, unique = unpack(job)
if not status then return false end
if status ~= 'failed' then return { status, '0', '' } end
local holder = unique and take_unique(unique, run_id)
if holder then return { status, '0', holder[1] } end

local said = terms(spec)
local lane = said.lane or 'io'
list(run_id, status, false)
redis.call('PERSIST', key)
redis.call('HDEL', key, 'started_at', 'finished_at', 'error', 'result', 'progress', 'progressed',
  'cancel', 'drain_requeues')
redis.call('HSET', key, 'status', 'queued', 'rev', text(rev + 1), 'attempt', '0', 'worker', '',
  'since', NOW, 'entry', enqueue(run_id, lane .. ':' .. (said.priority or 'normal')))
tell_status(followed, run_id, rev + 1, 'queued', 0)
ring(lane)
return { 'queued', '1', '' }
