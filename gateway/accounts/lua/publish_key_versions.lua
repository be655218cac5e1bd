-- Says that records of keys have new versions: a reserve that was planned with an older one is told so.
--
-- KEYS[1]   the organization's base key
-- ARGV[1..] id of a key, its version, the next id, ..; a lower version than is there changes nothing
-- Returns how many were written.
--
-- Calls of the server: HGET each, HSET of those that are newer.
local versions = KEYS[1] .. ':versions'
local written = 0
for i = 1, #ARGV, 2 do
  local field, version = 'key:' .. ARGV[i], ARGV[i + 1]
  if tonumber(version) > tonumber(redis.call('HGET', versions, field) or 0) then
    redis.call('HSET', versions, field, version)
    written = written + 1
  end
end
return written
