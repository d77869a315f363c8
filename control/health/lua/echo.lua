#!lua
-- Write a value and read it back, and look at the server: all that a probe asks, in one command.
-- Where Redis is full, a replica, or cannot write to its disk, the script is refused as a whole.
--
-- KEYS: where to write
-- ARGV: the value, how long it is kept in milliseconds
-- Returns { what was read, then of INFO: used_memory, maxmemory, maxmemory_policy, role,
--   connected_slaves; '' for each that the server does not let us see }

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local told = { redis.call('GET', KEYS[1]) or '' }
for _, section in ipairs({ 'memory', 'replication' }) do
  local info = redis.pcall('INFO', section)
  if type(info) ~= 'string' then info = '' end
  local wanted = section == 'memory' and { 'used_memory', 'maxmemory', 'maxmemory_policy' }
    or { 'role', 'connected_slaves' }
  for _, name in ipairs(wanted) do
    told[#told + 1] = string.match(info, '\n' .. name .. ':([^\r\n]*)') or ''
  end
end
return told
