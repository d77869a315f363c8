#!lua flags=allow-oom
-- Project a document, if Redis lacks it or has an older or damaged one, and say so.
--
-- KEYS: the hash, such as the one that the job engine's gate reads, then `app_status:<flag>` for
--   each of the flags, or for none of them
-- ARGV: epoch, version, document, channel, answer or '', repetition or '',
--   then for each flag its name and 'true' or 'false'
-- An answer is published in any case: somebody waits for it. Without one, the repetition (the event
-- that carries the document) is published if anything had to be written.
-- Returns { 'written' | 'same' | 'newer', epoch, version } with the position that Redis had.

local hash, channel, answer, repeated = KEYS[1], ARGV[4], ARGV[5], ARGV[6]
local epoch, version = tonumber(ARGV[1]), tonumber(ARGV[2])
local FIRST = 7

-- The fields of the hash that hold flags, and what all of it should say.
local names, words, bits = {}, {}, {}
for at = FIRST, #ARGV, 2 do
  local name, value = ARGV[at], ARGV[at + 1]
  names[#names + 1], words[#words + 1] = name, value
  bits[#bits + 1] = value == 'true' and '1' or '0'
end

local had = redis.pcall('HMGET', hash, 'epoch', 'version', 'document', unpack(names))
if had.err then had = {} end  -- it is no hash: somebody else wrote there
local had_epoch, had_version = tonumber(had[1] or ''), tonumber(had[2] or '')

-- Whether a projection of our own position still says what we wrote.
local function whole()
  if had[3] ~= ARGV[3] then return false end
  local said = #KEYS > 1 and redis.call('MGET', unpack(KEYS, 2)) or words
  for i = 1, #names do
    if had[3 + i] ~= bits[i] or said[i] ~= words[i] then return false end
  end
  return true
end

local function write()
  redis.call('DEL', hash)
  redis.call('HSET', hash, 'epoch', ARGV[1], 'version', ARGV[2], 'document', ARGV[3])
  for i = 1, #names do
    redis.call('HSET', hash, names[i], bits[i])
    if KEYS[1 + i] then redis.call('SET', KEYS[1 + i], words[i]) end
  end
end

local verdict = 'written'
if had_epoch and had_version then
  if had_epoch > epoch or (had_epoch == epoch and had_version > version) then
    verdict = 'newer'
  elseif had_epoch == epoch and had_version == version and whole() then
    verdict = 'same'
  end
end

if verdict == 'written' then write() end
if answer ~= '' then
  redis.call('PUBLISH', channel, answer)
elseif repeated ~= '' and verdict == 'written' then
  redis.call('PUBLISH', channel, repeated)
end
return { verdict, had[1] or '', had[2] or '' }
