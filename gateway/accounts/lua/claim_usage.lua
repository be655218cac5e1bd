-- Says who folds the usage of an organization: whoever did lately goes on, another one waits until it has not been heard
-- of for a while.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  who asks: the name of a ledger
-- ARGV[2]  for how long it is believed to be there, in seconds
-- Returns {1 if it may fold, else 0; the epoch of the counters, '' if they have none}
local key = KEYS[1] .. ':usage:ledger'
local epoch = redis.call('HGET', KEYS[1] .. ':versions', 'epoch') or ''
local holder = redis.call('GET', key)
if holder and holder ~= ARGV[1] then
  return { 0, epoch }
end
redis.call('SET', key, ARGV[1], 'EX', ARGV[2])
return { 1, epoch }
