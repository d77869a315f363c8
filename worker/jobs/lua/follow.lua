-- Read a job's record for somebody who follows it: from now on its changes are published.
--
-- ARGV: run_id, the fields to read
-- Returns the fields' values, all of them false where there is no such job.

local key = job_key(ARGV[1])
if redis.call('HEXISTS', key, 'status') == 1 then redis.call('HSET', key, 'followed', '1') end
return redis.call('HMGET', key, unpack(ARGV, 2))
