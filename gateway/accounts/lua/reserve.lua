-- Takes what a call needs from everything that limits it, or nothing. Behind windows.lua and
-- records.lua; what follows, endings.lua and reserve_again.lua, runs only if it would be refused.
--
-- KEYS[1]      the organization's base key
-- ARGV[1]      now in µs, or 0
-- ARGV[2]      the plan, as MessagePack (plan.py makes it): an array of
--              1 version of the limit documents, 2 version of the key's record (0: not to be checked), 3 the key's id,
--              4 subjects of spend ('o', 'p:..', ..), the organization's first, 5 whether a spend limit can refuse
--                (0, 1),
--              6 buckets: name, unit (1 requests, 2 tokens, 3 images, 4 audio bytes, 5 batch tokens), µs that one
--                refills in, capacity in µs and a tolerance, shadow (0, 1), number of the limit; the next bucket, ..
--              7 spend limits: window (1 day, 2 week, 3 month, 4 total), number of the subject, nano-dollars, shadow,
--                number of the limit; ..
--              8 limits of what runs at a time: name, limit, shadow, number of the limit; ..
-- ARGV[3]      id of the reservation
-- ARGV[4]      its lease in µs
-- ARGV[5]      its event, should it never be settled: JSON without at_us; '': none
-- ARGV[6..10]  what it takes of the five units
-- ARGV[11]     nano-dollars
-- Returns, first of all, what became of it:
--   {1, at_us, levels.., numbers of shadow limits that would have refused..}   it has it, now or from an earlier call
--   {2, at_us, levels.., number of the limit that refused, used, wait in µs or -1: never}
--   {3, at_us, version of the documents, whether the key changed, field, document or nil, ..}   the plan is out of date
--   {4, at_us}  the counters are not open  {5, at_us}  it was cancelled, or swept
-- levels: of the tightest bucket of requests, then of tokens: number of the limit or -1, what remains, µs until it is
-- full.
--
-- Calls of the server, at most: TIME, GET, HMGET versions, MGET of buckets and running counts, HMGET of three windows
-- (and of up to six days for a limit per week), PSETEX a bucket, INCR a count, HSET of three windows, SET, ZADD. A
-- refusal writes nothing, but looks for what has expired: ZRANGEBYSCORE.
local ADMITTED, REFUSED, STALE, CLOSED, CANCELLED = 1, 2, 3, 4, 5
local NEVER = -1

local id, nano = ARGV[3], tonumber(ARGV[11])
local taking = { tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]) }
local plan = cmsgpack.unpack(ARGV[2])
local subjects, buckets = plan[PLAN_SUBJECTS], plan[PLAN_BUCKETS]
local spends, running = plan[PLAN_SPENDS], plan[PLAN_RUNNING]
local values = {} -- of buckets, then of running counts
local fulls = {} -- of buckets: when each is full again, before or after this

local function read_counts()
  local names = {}
  for i = 1, #buckets, BUCKET do
    names[#names + 1] = base .. buckets[i]
  end
  for i = 1, #running, RUNNING do
    names[#names + 1] = base .. running[i]
  end
  if #names > 0 then
    values = redis.call('MGET', unpack(names))
  end
  for n = 1, #buckets / BUCKET do
    fulls[n] = max((values[n] or 0) / PARTS, tick)
  end
end

local function with_levels(reply)
  local remaining, reset, entry = {}, {}, { -1, -1 }
  for n, full in ipairs(fulls) do
    local i = (n - 1) * BUCKET + 1
    local unit = buckets[i + 1]
    if unit <= 2 and buckets[i + 4] == 0 then
      local left = max(0, floor((buckets[i + 3] - (full - tick)) / buckets[i + 2]))
      if not remaining[unit] or left < remaining[unit] then
        remaining[unit], reset[unit], entry[unit] = left, ceil(full - tick), buckets[i + 5]
      end
    end
  end
  for unit = 1, 2 do
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = entry[unit], remaining[unit] or 0, reset[unit] or 0
  end
  return reply
end

local function stale_reply(version, key_changed)
  local reply = { STALE, now, version, key_changed and 1 or 0 }
  if version == plan[1] then
    return reply
  elseif plan[1] == 0 or version < plan[1] then
    for _, one in ipairs(redis.call('HGETALL', base .. 'limits')) do
      reply[#reply + 1] = one
    end
    return reply
  end
  local above = string.format('(%.0f', plan[1])
  for _, field in ipairs(redis.call('ZRANGEBYSCORE', base .. 'limits:log', above, '+inf')) do
    reply[#reply + 1] = field
    reply[#reply + 1] = redis.call('HGET', base .. 'limits', field)
  end
  return reply
end

-- What speaks against it before any limit does: the reply, or nil.
local function objection()
  local raw = redis.call('GET', RECORD .. id)
  if raw then
    if not is_living(raw) then
      return { CANCELLED, now }
    end
    read_counts()
    return with_levels({ ADMITTED, cmsgpack.unpack(raw)[AT] })
  end
  local versions = redis.call('HMGET', base .. 'versions', 'epoch', 'limits', 'key:' .. plan[3])
  local version = tonumber(versions[2]) or plan[1] -- an emptied server knows nothing better than the worker
  local key_changed = plan[2] > 0 and (tonumber(versions[3]) or 0) > plan[2]
  if version ~= plan[1] or key_changed then
    return stale_reply(version, key_changed)
  elseif plan[5] == 1 and not versions[1] then
    return { CLOSED, now }
  end
end

local windows, spent = nil, {} -- day, month, total: names, and for each the subjects' values

local function read_spend()
  windows = { windows_of(now) }
  for w, name in ipairs(windows) do
    spent[w] = redis.call('HMGET', name, unpack(subjects))
  end
end

local function week_spend()
  local sums = {}
  local today = floor(now / DAY_US)
  for day = today - (today + 3) % 7, today do
    local found = spent[1]
    if day < today then
      found = redis.call('HMGET', base .. 'spend:d:' .. day, unpack(subjects))
    end
    for s = 1, #subjects do
      sums[s] = (sums[s] or 0) + (found[s] or 0)
    end
  end
  return sums
end

-- The first spend limit that refuses: its number, what is spent. A call that costs nothing is never refused by one.
local function spend_refusal(shadowed)
  local week
  for i = 1, #spends, SPEND do
    local window, subject = spends[i], spends[i + 1]
    local sums
    if window == 2 then
      week = week or week_spend()
      sums = week
    else
      sums = spent[window == 1 and 1 or window - 1]
    end
    local already = tonumber(sums[subject]) or 0
    if already + nano > spends[i + 2] then
      if spends[i + 3] == 0 then
        return spends[i + 4], already, NEVER
      end
      shadowed[#shadowed + 1] = spends[i + 4]
    end
  end
end

-- The rate or running limit that refuses longest: its number, what is used, the wait.
local function rate_refusal(shadowed, after)
  local entry, used, wait
  for n, full in ipairs(fulls) do
    local i = (n - 1) * BUCKET + 1
    local per, capacity = buckets[i + 2], buckets[i + 3]
    local amount = taking[buckets[i + 1]] * per
    after[n] = full + amount
    local over = full + amount - tick - capacity
    if amount > 0 and over > 0 then
      if buckets[i + 4] == 1 then
        after[n] = max(full, tick + capacity)
        shadowed[#shadowed + 1] = buckets[i + 5]
      else
        local this = amount > capacity and NEVER or ceil(over)
        if not entry or (wait ~= NEVER and (this == NEVER or this > wait)) then
          entry, used, wait = buckets[i + 5], ceil((full - tick) / per - 0.01), this
        end
      end
    end
  end
  for i = 1, #running, RUNNING do
    local count, limit = tonumber(values[#fulls + (i - 1) / RUNNING + 1]) or 0, running[i + 1]
    if count + 1 > limit then
      if running[i + 2] == 1 then
        shadowed[#shadowed + 1] = running[i + 3]
      elseif not entry or (wait ~= NEVER and limit == 0) then
        entry, used, wait = running[i + 3], count, limit == 0 and NEVER or 0
      end
    end
  end
  return entry, used, wait
end

local function write_reservation(after)
  local record = { now, taking[1], taking[2], taking[3], taking[4], taking[5], nano }
  for n, full in ipairs(after) do
    local i = (n - 1) * BUCKET + 1
    local amount = taking[buckets[i + 1]] * buckets[i + 2]
    if amount > 0 then
      redis.call('PSETEX', base .. buckets[i], ceil((full - tick) / 1000) + SLACK_MS, floor(full * PARTS + 0.5))
    end
    local whole = amount > 0 and full >= fulls[n] + amount -- a shadow that counted a part of it gives nothing back
    record[FULL + n] = whole and full or 0
    fulls[n] = full
  end
  for i = 1, #running, RUNNING do
    redis.call('INCR', base .. running[i])
  end
  if nano > 0 then
    for w, name in ipairs(windows) do
      local sums = {}
      for s, subject in ipairs(subjects) do
        sums[2 * s - 1], sums[2 * s] = subject, (spent[w][s] or 0) + nano
      end
      redis.call('HSET', name, unpack(sums))
      if w < 3 and not spent[w][1] then
        redis.call('EXPIRE', name, w == 1 and DAYS_KEPT_S or MONTHS_KEPT_S)
      end
    end
  end
  redis.call('SET', RECORD .. id, cmsgpack.pack(record, ARGV[2], ARGV[5]))
  redis.call('ZADD', LEASES, now + ARGV[4], id)
end

local function attempt()
  local shadowed, after = {}, {}
  local entry, used, wait
  read_counts()
  if nano > 0 then
    read_spend()
    entry, used, wait = spend_refusal(shadowed)
  end
  if not entry then
    entry, used, wait = rate_refusal(shadowed, after)
  end
  if entry then
    local reply = with_levels({ REFUSED, now })
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = entry, used, wait
    return reply
  end
  write_reservation(after)
  local reply = with_levels({ ADMITTED, now })
  for _, one in ipairs(shadowed) do
    reply[#reply + 1] = one
  end
  return reply
end

local reply = objection() or attempt()
if reply[1] ~= REFUSED then
  return reply
end
