-- Undoes reservations: everything is given back, requests too. Behind windows.lua, records.lua, fields.lua and
-- endings.lua, before write.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2..] ids. One that is not known, or not yet, leaves a tombstone, and a reserve that comes later does nothing.
--           One that was swept stays as it is: what it was charged is in the stream.
-- Returns how many were undone.
--
-- Calls of the server: TIME, GET and SET each; HMGET and HSET of buckets and running counts, the same of
-- spend, ZREM.
local NOTHING = { 0, 0, 0, 0, 0 }
local undone = 0
for i = 2, #ARGV do
  local key = RECORD .. ARGV[i]
  local raw = call('GET', key)
  local living = is_living(raw)
  if living or not raw or raw == 'x' then
    call('SET', key, 'x', 'EX', TOMBSTONE_S)
  end
  if living then
    local took = { cmsgpack.unpack(raw) }
    local first, last = subjects_of(took)
    endings[#endings + 1] = took
    endings[#endings + 1] = NOTHING
    charge(took[AT], took, first, last, -took[NANO])
    unleased[#unleased + 1] = ARGV[i]
    undone = undone + 1
  end
end
local reply = undone
