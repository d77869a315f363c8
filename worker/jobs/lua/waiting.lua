-- Who is there to run jobs, and what waits for them. Changes nothing.
--
-- Returns { live workers, scheduled jobs, jobs that wait for a slot of their kind, how long the
--   oldest job has waited for a worker in milliseconds or -1, then for each lane of LANES: how many
--   jobs wait, how many run }

local live = redis.call('ZCOUNT', prefix .. 'workers', '(' .. NOW, '+inf')
local scheduled = redis.call('ZCARD', prefix .. 'due')
local held = 0
for _, kind in ipairs(redis.call('SMEMBERS', prefix .. 'kinds')) do
  held = held + redis.call('ZCARD', held_key(kind))
end

local oldest, lanes = now, {}
for _, lane in ipairs(LANES) do
  local waiting, running = 0, 0
  for _, name in ipairs(QUEUES) do
    local stream = queue_key(lane .. ':' .. name)
    -- Not XPENDING: that tells of each worker, and walks them all.
    local taken = of_group(stream, 'pending') or 0
    local depth = redis.call('XLEN', stream) - taken
    running = running + taken
    if depth > 0 then
      waiting = waiting + depth
      local head = redis.call('XRANGE', stream, '(' .. last_read(stream), '+', 'COUNT', 1)[1]
      if head then oldest = math.min(oldest, tonumber(string.match(head[1], '%d+'))) end
    end
  end
  lanes[#lanes + 1] = waiting
  lanes[#lanes + 1] = running
end
local waits = 0
for at = 1, #lanes, 2 do waits = waits + lanes[at] end
return { live, scheduled, held, waits > 0 and now - oldest or -1, unpack(lanes) }
