-- Part of every script in which a reservation can end: what it gives back, gathered, and written at the end at once.
-- Behind windows.lua, records.lua and fields.lua.
local endings = {} -- a record's row, what was used, the next row, ..
local charges, charged = {}, {} -- by day and subject: what is to be added; the days, in order
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
    charged[#charged + 1] = day
  end
  for n = first, last do
    sums[list[n]] = (sums[list[n]] or 0) + nano
  end
end

-- Where the subjects of a record's row are: the first, the last.
local function subjects_of(took)
  local first = PLAN + NAMES + took[PLAN + 5] + took[PLAN + 6]
  return first + 1, first + took[PLAN + 7]
end

-- Ends a living reservation: its buckets move from what was reserved to what was used, and it runs no more. used: by
-- unit; nil: as reserved.
local function give_back(took, used)
  endings[#endings + 1] = took
  endings[#endings + 1] = used
end

-- The names of the fields that endings change, and those of buckets alone, by place.
local function changing()
  local names, known = {}, {}
  for i = 1, #endings, 2 do
    local took, used = endings[i], endings[i + 1]
    local many, runs = took[PLAN + 5], took[PLAN + 6]
    local first = PLAN + NAMES
    local units = first + many + runs + took[PLAN + 7] + 1
    for n = 1, many + runs do
      local unit = n <= many and took[units + (n - 1) * BUCKET]
      local name = took[first + n]
      if not known[name] and (not unit or (used[unit] or took[UNITS + unit]) ~= took[UNITS + unit]) then
        known[name] = true
        names[#names + 1] = name
      end
    end
  end
  return names
end

-- Given back is at most what the bucket would still have to refill of what this reservation left it with.
local function true_up(took, used, now_are)
  local many, runs = took[PLAN + 5], took[PLAN + 6]
  local first = PLAN + NAMES
  local shape = first + many + runs + took[PLAN + 7]
  local rest = shape + many * BUCKET + runs * RUNNING + took[PLAN + 8] * LIMIT -- behind it the ticks
  for n = 1, many do
    local name, unit, per = took[first + n], took[shape + 1], took[shape + 2]
    local did = took[UNITS + unit]
    local should = used[unit] or did
    if should ~= did then
      local full = max(now_are[name], tick)
      local more = (should - did) * per
      if more < 0 then
        full = full - max(0, min(-more, took[rest + n] - tick))
      elseif took[shape + 4] == 1 then -- a shadow counts to the brim
        full = max(full, min(full + more, tick + took[shape + 3]))
      else
        full = full + more
      end
      now_are[name] = full
    end
    shape = shape + BUCKET
  end
  for n = many + 1, many + runs do
    local name = took[first + n]
    now_are[name] = now_are[name] - 1 / PARTS
  end
end

-- Counts are handled as buckets are, in sixteenths.
local function write_counts()
  local names = changing()
  if #names == 0 then
    return
  end
  local now_are, fields = {}, {}
  for n, value in ipairs(read_fields(BUCKETS, names)) do
    now_are[names[n]] = (value or 0) / PARTS
  end
  for i = 1, #endings, 2 do
    true_up(endings[i], endings[i + 1], now_are)
  end
  for n, name in ipairs(names) do
    fields[2 * n - 1], fields[2 * n] = name, max(0, floor(now_are[name] * PARTS + 0.5))
  end
  write_fields(BUCKETS, fields)
end

local function write_charges()
  local names, sums = {}, {}
  for _, days in ipairs(charged) do
    local day, month, total = windows_of(days)
    for subject, nano in pairs(charges[days]) do
      for _, name in ipairs({ day .. subject, month .. subject, total .. subject }) do
        if not sums[name] then
          names[#names + 1] = name
        end
        sums[name] = (sums[name] or 0) + nano
      end
    end
  end
  local fields = {}
  for n, value in ipairs(read_fields(SPEND, names)) do
    fields[2 * n - 1], fields[2 * n] = names[n], (value or 0) + sums[names[n]]
  end
  write_fields(SPEND, fields)
end

-- Ends reservations whose lease is over, at most so many: what they took stays taken, but they run no more.
-- Returns how many, and the error if the stream did not take an event.
local function sweep(most)
  local swept = 0
  for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, most)) do
    local raw = call('GET', RECORD .. id)
    if is_living(raw) then
      local took = { cmsgpack.unpack(raw) }
      if took[EVENT] ~= '' then
        local event = string.format('{"at_us":%.0f,', took[AT]) .. took[EVENT]:sub(2)
        local done = redis.pcall('XADD', STREAM, '*', 'id', id, 'e', event)
        if type(done) == 'table' then
          return swept, done
        end
      end
      local note = 'n' .. cmsgpack.pack(took[AT], took[NANO], unpack(took, subjects_of(took)))
      call('SET', RECORD .. id, note, 'EX', NOTE_S)
      give_back(took, {})
      swept = swept + 1
    end
    unleased[#unleased + 1] = id
  end
  return swept
end

-- Writes all that was gathered. It may be called again after more was.
local function write_endings()
  write_counts()
  write_charges()
  if #gone > 0 then
    call('DEL', unpack(gone))
  end
  if #unleased > 0 then
    call('ZREM', LEASES, unpack(unleased))
  end
  endings, charges, charged, gone, unleased = {}, {}, {}, {}, {}
end
