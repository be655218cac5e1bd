-- What subjects have spent so far, what is reserved included. Behind windows.lua and fields.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2..] subjects ('o', 'p:..', 'u:..', 'k:..'); there may be none
-- Returns {now, epoch or nil, then for each subject: day, week, month, total, in nano-dollars}
--
-- Calls of the server: TIME, HGET; HMGET of a hundred subjects.
local today = floor(now / DAY_US)
local day, month, total = windows_of(today)
local names = {}
for i = 2, #ARGV do
  local subject = ARGV[i]
  for _, window in ipairs({ day, month, total }) do
    names[#names + 1] = window .. subject
  end
  for one = today - (today + 3) % 7, today - 1 do
    names[#names + 1] = 'd' .. one .. ':' .. subject
  end
end
local values = read_fields(SPEND, names)
local reply = { now, call('HGET', base .. 'versions', 'epoch') }
local each = 3 + (today + 3) % 7
for from = 1, #names, each do
  local week = (values[from] or 0) + 0
  for n = from + 3, from + each - 1 do
    week = week + (values[n] or 0)
  end
  local found = { values[from] or 0, week, values[from + 1] or 0, values[from + 2] or 0 }
  for n = 1, 4 do
    reply[#reply + 1] = tonumber(found[n])
  end
end
return reply
