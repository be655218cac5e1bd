-- Forgets what was spent: all windows begin again with what living reservations hold. Behind
-- windows.lua, records.lua and endings.lua.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  now in µs, or 0
-- Returns how many reservations there are. Its time grows with them: it is for people, not for calls.
--
-- A swept reservation that is settled after this is corrected all the same, and so may take a window below zero.
local names = { base .. 'spend:t' }
local today = floor(now / DAY_US)
for days = today - DAYS_KEPT_S / 86400 - 1, today + 1 do
  names[#names + 1] = base .. 'spend:d:' .. days
end
for days = today - MONTHS_KEPT_S / 86400 - 31, today + 31, 28 do
  names[#names + 1] = base .. 'spend:m:' .. month_of(days)
end
redis.call('DEL', unpack(names))
local living = 0
for _, id in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
  local raw = redis.call('GET', RECORD .. id)
  if is_living(raw) then
    local took, blob = cmsgpack.unpack(raw)
    charge(took[AT], cmsgpack.unpack(blob)[PLAN_SUBJECTS], took[NANO])
    living = living + 1
  end
end
write_endings()
return living
