-- Give runs back, uncharged: they go to the head of the line. The next claim makes a new token, and
-- until then they do not run, so a late finish of the old one is refused.
--
-- ARGV: ttl_ms, drained ('1' counts as a drain requeue), then for each run
--   run_id, token, checkpoint or ''
-- Returns for each 1; 0 where the token is not the newest; -1 where its record is spoilt.

local FIELDS = 3
local ttl_ms, drained = ARGV[1], ARGV[2]
local answers, woken = {}, {}

for at = 3, #ARGV, FIELDS do
  local answer, lane = give_back(ARGV[at], ARGV[at + 1], ARGV[at + 2], drained, ttl_ms)
  answers[#answers + 1] = answer
  if lane then woken[lane] = true end
end
for lane in pairs(woken) do ring(lane) end
await_archive()
return answers
