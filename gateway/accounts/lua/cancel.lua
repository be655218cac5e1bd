-- Undoes reservations: everything is given back, requests too. Behind windows.lua, records.lua and endings.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2..] ids. One that is not known, or not yet, leaves a tombstone, and a reserve that comes later does nothing.
--           One that was swept stays as it is: what it was charged is in the stream.
-- Returns how many were undone.
--
-- Calls of the server: TIME, GET and SET each; MGET of buckets, PSETEX each, HMGET and HSET of three windows, DECRBY a
-- count, ZREM.
local NOTHING = { 0, 0, 0, 0, 0 }
local undone = 0
for i = 2, #ARGV do
  local key = RECORD .. ARGV[i]
  local raw = redis.call('GET', key)
  local living = is_living(raw)
  if living or not raw or raw == 'x' then
    redis.call('SET', key, 'x', 'EX', TOMBSTONE_S)
  end
  if living then
    local took, blob = cmsgpack.unpack(raw)
    local plan = cmsgpack.unpack(blob)
    true_up(took, plan[PLAN_BUCKETS], NOTHING)
    charge(took[AT], plan[PLAN_SUBJECTS], -took[NANO])
    free(plan[PLAN_RUNNING])
    unleased[#unleased + 1] = ARGV[i]
    undone = undone + 1
  end
end
write_endings()
return undone
