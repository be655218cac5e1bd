-- Part of every script in which a reservation can end: what it gives back, gathered, and written at the end at once.
-- Behind windows.lua and records.lua.
local full_at, moved = {}, {} -- of buckets: at which tick they are full again, and which of these changed
local charges = {} -- by hash, by subject: what is to be added
local freed = {} -- by running count
local gone, unleased = {}, {} -- keys, ids

-- Adds nano-dollars to the windows of an instant, for all subjects.
local function charge(at, subjects, nano)
  if nano == 0 then
    return
  end
  for _, name in ipairs({ windows_of(at) }) do
    local sums = charges[name] or {}
    charges[name] = sums
    for _, subject in ipairs(subjects) do
      sums[subject] = (sums[subject] or 0) + nano
    end
  end
end

local function read_buckets(buckets, took, used)
  local missing, names = {}, {}
  for i = 1, #buckets, BUCKET do
    local unit, name = buckets[i + 1], buckets[i]
    if used[unit] and used[unit] ~= took[UNITS + unit] and not full_at[name] then
      missing[#missing + 1] = name
      names[#names + 1] = base .. name
    end
  end
  if #names > 0 then
    local values = redis.call('MGET', unpack(names))
    for i = 1, #names do
      full_at[missing[i]] = (values[i] or 0) / PARTS
    end
  end
end

-- Moves the buckets from what was reserved to what was used. used: by unit; nil: as reserved.
-- Given back is at most what the bucket would still have to refill of what this reservation left it with.
local function true_up(took, buckets, used)
  read_buckets(buckets, took, used)
  for i = 1, #buckets, BUCKET do
    local name, unit, per = buckets[i], buckets[i + 1], buckets[i + 2]
    local should, did = used[unit], took[UNITS + unit]
    if should and should ~= did then
      local full = max(full_at[name], tick)
      local more = (should - did) * per
      if more < 0 then
        local rest = took[FULL + (i - 1) / BUCKET + 1] - tick
        full = full - max(0, min(-more, rest))
      elseif buckets[i + 4] == 1 then -- a shadow counts to the brim
        full = max(full, min(full + more, tick + buckets[i + 3]))
      else
        full = full + more
      end
      full_at[name] = full
      moved[name] = true
    end
  end
end

local function free(running)
  for i = 1, #running, RUNNING do
    freed[running[i]] = (freed[running[i]] or 0) + 1
  end
end

-- Ends reservations whose lease is over, at most so many: what they took stays taken, but they run no more.
-- Returns how many, and the error if the stream did not take an event.
local function sweep(most)
  local swept = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, most)) do
    local raw = redis.call('GET', RECORD .. id)
    if is_living(raw) then
      local took, blob, provisional = cmsgpack.unpack(raw)
      local plan = cmsgpack.unpack(blob)
      if provisional ~= '' then
        local event = string.format('{"at_us":%.0f,', took[AT]) .. provisional:sub(2)
        local done = redis.pcall('XADD', STREAM, '*', 'id', id, 'e', event)
        if type(done) == 'table' then
          return swept, done
        end
      end
      local note = 'n' .. cmsgpack.pack(took[AT], took[NANO], plan[PLAN_SUBJECTS])
      redis.call('SET', RECORD .. id, note, 'EX', NOTE_S)
      free(plan[PLAN_RUNNING])
      swept = swept + 1
    end
    unleased[#unleased + 1] = id
  end
  return swept
end

local function write_charges()
  for name, sums in pairs(charges) do
    local subjects, values = {}, {}
    for subject in pairs(sums) do
      subjects[#subjects + 1] = subject
    end
    local spent = redis.call('HMGET', name, unpack(subjects))
    local created = true
    for i, subject in ipairs(subjects) do
      created = created and not spent[i]
      values[2 * i - 1] = subject
      values[2 * i] = (spent[i] or 0) + sums[subject]
    end
    redis.call('HSET', name, unpack(values))
    if created then -- perhaps; another subject may be there, and then this does no harm
      local kind = name:sub(#base + 7, #base + 7)
      if kind == 'd' then
        redis.call('EXPIRE', name, DAYS_KEPT_S)
      elseif kind == 'm' then
        redis.call('EXPIRE', name, MONTHS_KEPT_S)
      end
    end
  end
end

-- Writes all that was gathered. It may be called again after more was.
local function write_endings()
  for name in pairs(moved) do
    local rest = full_at[name] - tick
    if rest > 0 then
      redis.call('PSETEX', base .. name, ceil(rest / 1000) + SLACK_MS, floor(full_at[name] * PARTS + 0.5))
    else
      redis.call('DEL', base .. name)
    end
  end
  write_charges()
  for name, count in pairs(freed) do
    if redis.call('DECRBY', base .. name, count) <= 0 then
      redis.call('DEL', base .. name)
    end
  end
  if #gone > 0 then
    redis.call('DEL', unpack(gone))
  end
  if #unleased > 0 then
    redis.call('ZREM', LEASES, unpack(unleased))
  end
  moved, charges, freed, gone, unleased = {}, {}, {}, {}, {}
end
