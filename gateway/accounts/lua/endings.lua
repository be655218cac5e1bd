-- Part of every script in which a reservation can end: what it gives back, gathered; write.lua writes it at the end, at
-- once. Behind windows.lua, records.lua and fields.lua.
--
-- Making a function costs a look-up for each local that it refers to, so these scripts have few functions.
local endings = {} -- a record's row, what was used by unit (nil: as reserved), the next row, ..
local charges, days_charged = {}, {} -- by day and subject: what is to be added; the days, in order
local gone, unleased = {}, {} -- keys, ids

-- Adds nano-dollars to the windows of an instant, for subjects first..last of a list.
local function charge(at, list, first, last, nano)
  if nano == 0 then
    return
  end
  local day = floor(at / DAY_US)
  local sums = charges[day]
  if not sums then
    sums = {}
    charges[day] = sums
    days_charged[#days_charged + 1] = day
  end
  for n = first, last do
    sums[list[n]] = (sums[list[n]] or 0) + nano
  end
end

-- Where the subjects of a record's row are: the first, the last.
local function subjects_of(took)
  local before = PLAN + NAMES + took[PLAN + 5] + took[PLAN + 6]
  return before + 1, before + took[PLAN + 7]
end
