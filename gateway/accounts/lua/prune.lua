-- Takes away, step by step, what nobody needs of the hashes `buckets` and `spend`: fields do not expire by themselves.
-- Behind windows.lua and records.lua.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  now in µs, or 0
-- ARGV[2]  'buckets': those that have been full for longer than the slack, and running counts of 0; 'spend': days older
--          than 40 days, and months older than 13 months
-- ARGV[3]  where to go on: 0 at first, then as the last step said
-- ARGV[4]  about how many fields to look at
-- Returns where to go on, 0 if that was all; how many fields are gone.
--
-- It also sees to it that the hash is a table, from the start: a small one would be one list, in which looking for
-- fields may take as long as all the rest of a reserve. A server makes a table of a hash for a value that is long.
--
-- Calls of the server: TIME, HSETNX at the first step, HSCAN, HDEL.
local key = base .. ARGV[2]
if ARGV[3] == '0' then
  call('HSETNX', key, '', ('0'):rep(100))
end
local found = call('HSCAN', key, ARGV[3], 'COUNT', ARGV[4])
local today = floor(now / DAY_US)
local oldest_day = today - 40
local oldest_month = month_of(today) - 101 -- a year and a month
if month_of(today) % 100 == 1 then
  oldest_month = oldest_month - 88 -- December is before January
end

local function is_over(field, value)
  local kind = field:sub(1, 2)
  if kind == 'b:' then
    return value / PARTS + SLACK_US < tick
  elseif kind == 'c:' then
    return tonumber(value) <= 0
  end
  local window, number = field:match('^([dm])(%d+):')
  if window == 'd' then
    return tonumber(number) < oldest_day
  end
  return window == 'm' and tonumber(number) < oldest_month
end

local over = {}
for n = 1, #found[2], 2 do
  if is_over(found[2][n], found[2][n + 1]) then
    over[#over + 1] = found[2][n]
  end
end
for from = 1, #over, 1000 do
  call('HDEL', key, unpack(over, from, min(from + 999, #over)))
end
return { found[1], #over }
