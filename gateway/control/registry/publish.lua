-- Writes one key of the read model if it is newer than what is there, and tells the workers.
--
-- KEYS[1]  the key's hash (see keyspace.py)
-- ARGV[1]  version, an integer below 2^53
-- ARGV[2]  the principal as JSON
-- ARGV[3]  the channel of invalidations
-- ARGV[4]  the message: the key's hash in hex
-- Returns 1 if it was written, 0 if what is there is as new or newer: order and repeats do no harm.
local known = tonumber(redis.call('HGET', KEYS[1], 'v') or '-1')
if tonumber(ARGV[1]) <= known then
  return 0
end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
