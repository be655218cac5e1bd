-- Renews the leases of a worker's reservations, and its own. Behind windows.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2]   name of the worker
-- ARGV[3]   the lease in µs
-- ARGV[4..] ids of its reservations: a thousand at most
-- Returns how many workers there are, this one too (those whose own lease is not over), the epoch of the counters or
-- nil, then the ids that are not there.
--
-- Calls of the server: TIME, ZADD, ZREMRANGEBYSCORE, ZCARD, HGET; with ids ZMSCORE and ZADD.
local till = now + ARGV[3]
redis.call('ZADD', base .. 'workers', till, ARGV[2])
redis.call('ZREMRANGEBYSCORE', base .. 'workers', '-inf', now)
local reply = { redis.call('ZCARD', base .. 'workers'), redis.call('HGET', base .. 'versions', 'epoch') }
local ids = {}
for i = 4, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
if #ids > 0 then
  local scores = redis.call('ZMSCORE', base .. 'leases', unpack(ids))
  local renewed = {}
  for i, id in ipairs(ids) do
    if scores[i] then
      renewed[#renewed + 1] = till
      renewed[#renewed + 1] = id
    else
      reply[#reply + 1] = id
    end
  end
  if #renewed > 0 then
    redis.call('ZADD', base .. 'leases', unpack(renewed))
  end
end
return reply
