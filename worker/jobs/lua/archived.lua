-- Jobs were archived as they ended then; one that has ended again since stays to be archived.
--
-- ARGV: for each: run_id, when it ended in ms
-- Returns how many are left to be archived.

local ended = prefix .. 'ended'
for at = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', ended, ARGV[at]) or 0) == tonumber(ARGV[at + 1]) then
    redis.call('ZREM', ended, ARGV[at])
  end
end
return redis.call('ZCARD', ended)
