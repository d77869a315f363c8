-- Claim up to `count` jobs of a lane for a live worker, unless the bridge is up.
--
-- ARGV: worker, lane, count, limits (JSON: how many of a kind may run at once, fleet-wide), offer
--   (a number; '0': none), direct ('1' or '0'), handed (`run_id token` of a job that came with a call,
--   or ''), resync ('1' or '0'), then the run ids that the worker knows it holds
-- Returns 'closed' or 'unknown' (see bridge_is_up), 'lost' (the worker has no lease), or
--   { 1 where its offer stands, else 0; a list of
--     { run_id, token, attempt, spec, payload, checkpoint or false } }
-- Where fewer than `count` wait, an offer is made: the worker will be called, see offers in
-- records.lua. With resync, an earlier offer is withdrawn, and jobs that were assigned to this worker
-- but never reached it come first, with a new token.

local worker, lane, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local RESYNC = 8
if ARGV[7] ~= '' then redis.call('ZREM', handed, ARGV[7]) end
local known
if ARGV[RESYNC] == '1' then
  known = {}
  for at = RESYNC + 1, #ARGV do known[ARGV[at]] = true end
  withdraw(lane, worker)
end
if not redis.call('ZSCORE', prefix .. 'workers', worker) then return 'lost' end
local shut = bridge_is_up()
if shut then return shut end

local claims, more = claim(worker, lane, count, ARGV[4], known)
-- What we could not carry is for the next consumer.
if more then ring(lane) end
local offers = not more and ARGV[5] ~= '0'
if offers then offer(lane, worker, ARGV[5], ARGV[6], ARGV[4]) end
return { offers and 1 or 0, claims }
