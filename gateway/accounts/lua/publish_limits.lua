-- Writes limit documents of one organization, each only if it is newer than what is there.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   the version that these documents have
-- ARGV[2..] for each document: its field (keyspace.py), its JSON ('': there is none any more)
-- Returns how many were written.
--
-- Versions are compared as numbers: exact up to 2^53. `limits:log` also remembers those that are gone, so that a worker
-- that asks what has changed is told of them, and an old publication does not bring them back.
local base = KEYS[1] .. ':'
local version = tonumber(ARGV[1])
local written = 0
for i = 2, #ARGV, 2 do
  local field, document = ARGV[i], ARGV[i + 1]
  local known = redis.call('ZSCORE', base .. 'limits:log', field)
  if not known or version > tonumber(known) then
    redis.call('ZADD', base .. 'limits:log', version, field)
    if document == '' then
      redis.call('HDEL', base .. 'limits', field)
    else
      redis.call('HSET', base .. 'limits', field, document)
    end
    written = written + 1
  end
end
local latest = tonumber(redis.call('HGET', base .. 'versions', 'limits') or 0)
if version > latest then
  redis.call('HSET', base .. 'versions', 'limits', version)
end
return written
