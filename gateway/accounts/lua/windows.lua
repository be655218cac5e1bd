-- Part of every script that counts: the time, the names, and the windows in which money is spent.
--
-- KEYS[1]  the organization's base key, `{prefix}:{<org>}`; every key that a script touches begins with it, and
--          so is in its slot
-- ARGV[1]  now, in microseconds since 1970; 0: the server's own time
--
-- Money is in nano-dollars. Lua has only doubles: integers are exact up to 2^53, about $9.0 M in a window. redis.call
-- writes a number with 17 digits; `..` and tostring write 14 and are for small numbers only.
local call, floor, ceil, max, min = redis.call, math.floor, math.ceil, math.max, math.min
local base = KEYS[1] .. ':'
local BUCKETS, SPEND = base .. 'buckets', base .. 'spend' -- hashes
local now = tonumber(ARGV[1])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
-- Buckets have a time of their own, µs since 2026, and are written in sixteenths of that: whole numbers, which a server
-- reads and writes faster, and exact until 2043.
local tick = now - 1767225600000000
local PARTS = 16

local DAY_US = 86400000000

-- The month of a day since 1970, as YYYYMM. Years begin in March here, so that leap days are at their ends.
local function month_of(days)
  local shifted = days + 719468 -- since 0000-03-01
  local era = floor(shifted / 146097)
  local day = shifted - era * 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  day = day - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * day + 2) / 153)
  year = year + era * 400
  if month >= 10 then
    return (year + 1) * 100 + month - 9
  end
  return year * 100 + month + 3
end

-- What the fields of a day (since 1970) begin with: those of the day, its month, and all time.
local function windows_of(days)
  return 'd' .. days .. ':', 'm' .. month_of(days) .. ':', 't:'
end
