-- All limit documents of an organization, and their version, as of one moment.
--
-- KEYS[1]  the organization's base key
-- Returns the version (0: none), then field, JSON, field, JSON, ..
local reply = { tonumber(redis.call('HGET', KEYS[1] .. ':versions', 'limits') or 0) }
for _, one in ipairs(redis.call('HGETALL', KEYS[1] .. ':limits')) do
  reply[#reply + 1] = one
end
return reply
