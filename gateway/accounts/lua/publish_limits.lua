-- Writes limit documents of one organization, each only if it is newer than what is there.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   the registry's version of these documents
-- ARGV[2..] for each document: its field (keyspace.py), its JSON ('': there is none any more)
-- Returns how many were written.
--
-- Two counts of versions, compared as numbers: exact up to 2^53. `limits:sources` has the registry's, so that order and
-- repeats of publications do no harm. `limits:log` has those that workers see, which rise with each publication, also if
-- it comes late: a worker that asks what has changed since its own is told of all that came after it, and of those that
-- are gone.
local base = KEYS[1] .. ':'
local version = tonumber(ARGV[1])
local seen = math.max(version, tonumber(redis.call('HGET', base .. 'versions', 'limits') or 0) + 1)
local written = 0
for i = 2, #ARGV, 2 do
  local field, document = ARGV[i], ARGV[i + 1]
  local known = redis.call('HGET', base .. 'limits:sources', field) or redis.call('ZSCORE', base .. 'limits:log', field)
  if not known or version > tonumber(known) then
    redis.call('HSET', base .. 'limits:sources', field, ARGV[1])
    redis.call('ZADD', base .. 'limits:log', seen, field)
    if document == '' then
      redis.call('HDEL', base .. 'limits', field)
    else
      redis.call('HSET', base .. 'limits', field, document)
    end
    written = written + 1
  end
end
if written > 0 then
  redis.call('HSET', base .. 'versions', 'limits', string.format('%d', seen))
end
return written
