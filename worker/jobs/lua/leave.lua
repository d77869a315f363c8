-- A worker says good-bye: its lease ends now, its consumers go, and somebody else is called.
--
-- ARGV: worker
-- Returns how many of its jobs it left behind; those the others rescue at once.

local worker = ARGV[1]
local left = 0
for _, lane in ipairs(LANES) do
  withdraw(lane, worker)
  for _, name in ipairs(QUEUES) do
    local stream = queue_key(lane .. ':' .. name)
    local pending = redis.pcall('XPENDING', stream, GROUP, '-', '+', 1, worker)
    if not pending.err then
      left = left + #pending
      if #pending == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, worker) end
      if redis.call('XLEN', stream) > 0 then ring(lane) end
    end
  end
end
if left == 0 then redis.call('ZREM', prefix .. 'workers', worker)
elseif redis.call('ZSCORE', prefix .. 'workers', worker) then
  redis.call('ZADD', prefix .. 'workers', now, worker)
end
return left
