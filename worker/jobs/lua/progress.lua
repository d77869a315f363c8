-- Store the newest progress of running jobs and pass it on to whoever follows them.
--
-- ARGV: for each: run_id, token, progress JSON or '', checkpoint or ''
-- Returns for each '1', or '0' where the token is not the newest.

local FIELDS = 4
local answers = {}
for at = 1, #ARGV, FIELDS do
  local run_id, token, progress, checkpoint = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key = job_key(run_id)
  local job = redis.call('HMGET', key, 'token', 'status')
  if job[1] == token and job[2] == 'running' then
    if progress ~= '' then
      redis.call('HSET', key, 'progress', progress)
      emit(key, 'progress', progress)
    end
    if checkpoint ~= '' then redis.call('SET', key .. ':checkpoint', checkpoint) end
    answers[#answers + 1] = '1'
  else
    answers[#answers + 1] = '0'
  end
end
return answers
