-- How jobs are made that nobody submits. Put behind records.lua where that is needed.

-- The ULID of a moment, its rest made from `seed`: the same seed gives the same id. Where there are
-- shards, its last character is the number of this one.
local BASE32 = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
local function id_at(ms, seed)
  local id, hash = '', redis.sha1hex(seed)
  for _ = 1, 10 do
    local digit = ms % 32
    id = string.sub(BASE32, digit + 1, digit + 1) .. id
    ms = (ms - digit) / 32
  end
  for at = 1, 31, 2 do
    local digit = tonumber(string.sub(hash, at, at + 1), 16) % 32
    id = id .. string.sub(BASE32, digit + 1, digit + 1)
  end
  local shard = string.match(prefix, '{jobs:(%d+)}')
  return shard and string.sub(id, 1, 25) .. string.sub(BASE32, shard + 1, shard + 1) or id
end

-- Queue a job that nobody submits, whatever the flags are: it is claimed when the bridge is down.
-- `spec` and `payload` are JSON.
local function make(run_id, spec, payload)
  local key, said = job_key(run_id), terms(spec)
  if redis.call('EXISTS', key) == 1 then return end
  local lane = said.lane or 'io'
  local entry = enqueue(run_id, lane .. ':' .. (said.priority or 'normal'))
  redis.call('HSET', key, 'status', 'queued', 'submitted_at', NOW, 'spec', spec,
    'payload', '\0' .. payload, 'entry', entry)
  redis.call('ZADD', prefix .. 'index:' .. said.kind, 0, run_id)
  redis.call('SADD', prefix .. 'kinds', said.kind)
  ring(lane)
end
