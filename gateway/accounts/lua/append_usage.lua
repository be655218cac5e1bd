-- Appends usage events of one organization to its stream, in order, each at most once.
--
-- KEYS[1]    the stream (see keyspace.py)
-- KEYS[2..]  the sets of ids of the events' minutes
-- ARGV[1]    how long such a set lives after this, in seconds
-- ARGV[2..]  for each event: the number of its minute's set among KEYS, its id, the event as JSON
-- Returns how many were appended; the others were there already.
local appended, failed = 0, nil
for i = 2, #ARGV, 3 do
  local ids = KEYS[tonumber(ARGV[i])]
  if redis.call('SADD', ids, ARGV[i + 1]) == 1 then
    local done = redis.pcall('XADD', KEYS[1], '*', 'id', ARGV[i + 1], 'e', ARGV[i + 2])
    if type(done) == 'table' then
      redis.call('SREM', ids, ARGV[i + 1]) -- or the next attempt would take it for appended
      failed = done
      break
    end
    appended = appended + 1
  end
end
for k = 2, #KEYS do
  redis.call('EXPIRE', KEYS[k], ARGV[1])
end
return failed or appended
