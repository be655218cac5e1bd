-- Forgets what was spent: all windows begin again with what living reservations hold. Behind
-- windows.lua, records.lua, fields.lua and endings.lua, before write.lua.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  now in µs, or 0
-- Returns how many reservations there are. Its time grows with them: it is for people, not for calls.
--
-- A swept reservation that is settled after this is corrected all the same, and so may take a window below zero.
call('DEL', SPEND)
local living = 0
for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
  local raw = call('GET', RECORD .. id)
  if is_living(raw) then
    local took = { cmsgpack.unpack(raw) }
    local first, last = subjects_of(took)
    charge(took[AT], took, first, last, took[NANO])
    living = living + 1
  end
end
local reply = living
