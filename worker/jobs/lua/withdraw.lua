-- Withdraw a worker's offer in a lane, and give back, uncharged, what was assigned to it there but
-- never reached it: by a call, or an answer, that came to nothing. It need not wait for the lease.
--
-- ARGV: ttl_ms, worker, lane, then the run ids that the worker knows it holds
-- Returns how many went back

local ttl_ms, worker, lane = ARGV[1], ARGV[2], ARGV[3]
local known, count = {}, 0
for at = 4, #ARGV do known[ARGV[at]] = true end
withdraw(lane, worker)
for _, name in ipairs(QUEUES) do
  for _, entry in ipairs(entries(worker, queue_key(lane .. ':' .. name), '0', ALL)) do
    local run_id = entry[2] and entry[2][2]
    if run_id and not known[run_id] then
      local token, holder = unpack(read(run_id, 'token', 'worker'))
      local mine = holder == worker and give_back(run_id, token, '', 1, ttl_ms) == 1
      if mine then count = count + 1 end
    end
  end
end
if count > 0 then ring(lane) end
await_archive()
return count
