-- Says that a key's record has a new version: a reserve that was planned with an older one is told so.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  id of the key
-- ARGV[2]  version; a lower one than is there changes nothing
-- Returns 1 if it was written, else 0.
local versions = KEYS[1] .. ':versions'
local known = tonumber(redis.call('HGET', versions, 'key:' .. ARGV[1]) or 0)
if tonumber(ARGV[2]) <= known then
  return 0
end
redis.call('HSET', versions, 'key:' .. ARGV[1], ARGV[2])
return 1
