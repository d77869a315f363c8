-- Store the newest progress of running jobs and pass it on to whoever follows them.
--
-- ARGV: for each: run_id, token, progress JSON or '', checkpoint or ''
-- Returns for each 1, or 0 where the token is not the newest.

local FIELDS = 4
local answers = {}

local function report(at)
  local run_id, progress, checkpoint = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  local job = read(run_id, 'token', 'status', 'progressed', 'followed')
  if job[1] ~= ARGV[at + 1] or job[2] ~= 'running' then return 0 end
  local fields = {}
  if checkpoint ~= '' then fields = { 'checkpoint', checkpoint } end
  if progress ~= '' then
    local rev = running_at(job[1], job[3]) + 1
    redis.call('HSET', job_key(run_id), 'progress', progress, 'progressed', text(rev),
      unpack(fields))
    tell(job[4], run_id, rev, 'progress', progress)
  elseif fields[1] then
    redis.call('HSET', job_key(run_id), unpack(fields))
  end
  return 1
end

for at = 1, #ARGV, FIELDS do answers[#answers + 1] = report(at) end
return answers
