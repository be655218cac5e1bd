-- Takes what a call needs from everything that limits it, or nothing. Behind windows.lua and
-- records.lua; what follows, fields.lua, endings.lua and reserve_again.lua, runs only if it would be refused.
--
-- KEYS[1]      the organization's base key
-- ARGV[1]      now in µs, or 0
-- ARGV[2]      the plan: see records.lua
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
-- Calls of the server, at most: TIME, HMGET of versions, of buckets and running counts, of spend (with the earlier days
-- of a limit per week); SET, if there is no such record; HSET of buckets and counts, and of spend, ZADD. Whatever is
-- not admitted looks for an earlier record: GET. A refusal writes nothing, but looks for what has expired:
-- ZRANGEBYSCORE.
local ADMITTED, REFUSED, STALE, CLOSED, CANCELLED = 1, 2, 3, 4, 5
local NEVER = -1

local id, nano = ARGV[3], tonumber(ARGV[11])
local taking = { tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]) }
local plan = { cmsgpack.unpack(ARGV[2]) }
local many, runs, some, limits = plan[5], plan[6], plan[7], plan[8]
local RATES = NAMES + many + runs + some -- behind which they begin
local COUNTS = RATES + many * BUCKET
local SPENDS = COUNTS + runs * RUNNING
local values = {} -- of buckets, then of running counts
local fulls = {} -- of buckets: when each is full again, before or after this

local function read_counts()
  if many + runs > 0 then
    values = call('HMGET', BUCKETS, unpack(plan, NAMES + 1, NAMES + many + runs))
  end
  for n = 1, many do
    local full = (values[n] or 0) / PARTS
    fulls[n] = full > tick and full or tick
  end
end

local function with_levels(kind, at)
  local entry, left, reset = -1, 0, 0 -- of requests
  local entry2, left2, reset2 = -1, 0, 0 -- of tokens
  local i = RATES
  for n = 1, many do
    local unit = plan[i + 1]
    if unit <= 2 and plan[i + 4] == 0 then
      local rest = fulls[n] - tick
      local remains = floor((plan[i + 3] - rest) / plan[i + 2])
      if remains < 0 then
        remains = 0
      end
      if unit == 1 then
        if entry < 0 or remains < left then
          entry, left, reset = plan[i + 5], remains, ceil(rest)
        end
      elseif entry2 < 0 or remains < left2 then
        entry2, left2, reset2 = plan[i + 5], remains, ceil(rest)
      end
    end
    i = i + BUCKET
  end
  return { kind, at, entry, left, reset, entry2, left2, reset2 }
end

-- What an earlier call with this id left: the reply, or nil.
local function earlier()
  local raw = call('GET', RECORD .. id)
  if not raw then
    return nil
  elseif not is_living(raw) then
    return { CANCELLED, now }
  end
  read_counts()
  return with_levels(ADMITTED, (cmsgpack.unpack(raw)))
end

local function stale_reply(version, key_changed)
  local reply = { STALE, now, version, key_changed and 1 or 0 }
  if version == plan[1] then
    return reply
  elseif plan[1] == 0 or version < plan[1] then
    for _, one in ipairs(call('HGETALL', base .. 'limits')) do
      reply[#reply + 1] = one
    end
    return reply
  end
  local above = string.format('(%.0f', plan[1])
  for _, field in ipairs(call('ZRANGEBYSCORE', base .. 'limits:log', above, '+inf')) do
    reply[#reply + 1] = field
    reply[#reply + 1] = call('HGET', base .. 'limits', field)
  end
  return reply
end

-- What speaks against it before any limit does: the reply, or nil.
local function objection()
  local versions = call('HMGET', base .. 'versions', 'epoch', 'limits', plan[3])
  local version = tonumber(versions[2]) or plan[1] -- an emptied server knows nothing better than the worker
  local key_changed = plan[2] > 0 and (tonumber(versions[3]) or 0) > plan[2]
  if version ~= plan[1] or key_changed then
    return stale_reply(version, key_changed)
  elseif plan[4] == 1 and not versions[1] then
    return { CLOSED, now }
  end
end

-- Names and values of spend: of the day by subject, of the month, of all time; then, for each limit per week, of its
-- earlier days.
local names, spent, earlier_days = {}, {}, 0

local function read_spend()
  local today = floor(now / DAY_US)
  local day, month, total = windows_of(today)
  local first = NAMES + many + runs
  for s = 1, some do
    local subject = plan[first + s]
    names[s], names[some + s], names[2 * some + s] = day .. subject, month .. subject, total .. subject
  end
  earlier_days = (today + 3) % 7
  for i = SPENDS, SPENDS + (limits - 1) * LIMIT, LIMIT do
    if plan[i + 2] == 1 then
      for one = today - earlier_days, today - 1 do
        names[#names + 1] = 'd' .. one .. ':' .. plan[first + plan[i + 1]]
      end
    end
  end
  spent = call('HMGET', SPEND, unpack(names))
end

-- The first spend limit that refuses: its number, what is spent. A call that costs nothing is never refused by one.
local function spend_refusal(shadowed)
  local week = 3 * some
  for i = SPENDS, SPENDS + (limits - 1) * LIMIT, LIMIT do
    local already = tonumber(spent[plan[i + 1]]) or 0
    if plan[i + 2] == 1 then
      for n = week + 1, week + earlier_days do
        already = already + (spent[n] or 0)
      end
      week = week + earlier_days
    end
    if already + nano > plan[i + 3] then
      if plan[i + 4] == 0 then
        return plan[i + 5], already, NEVER
      end
      shadowed[#shadowed + 1] = plan[i + 5]
    end
  end
end

-- The rate or running limit that refuses longest: its number, what is used, the wait.
local function rate_refusal(shadowed, after)
  local entry, used, wait
  local i = RATES
  for n = 1, many do
    local full, per, capacity = fulls[n], plan[i + 2], plan[i + 3]
    local amount = taking[plan[i + 1]] * per
    local moved = full + amount
    local over = moved - tick - capacity
    if amount > 0 and over > 0 then
      if plan[i + 4] == 1 then
        moved = max(full, tick + capacity)
        shadowed[#shadowed + 1] = plan[i + 5]
      else
        local this = amount > capacity and NEVER or ceil(over)
        if not entry or (wait ~= NEVER and (this == NEVER or this > wait)) then
          entry, used, wait = plan[i + 5], ceil((full - tick) / per - 0.01), this
        end
      end
    end
    after[n] = moved
    i = i + BUCKET
  end
  for n = many + 1, many + runs do
    local count, limit = tonumber(values[n]) or 0, plan[i + 1]
    if count + 1 > limit then
      if plan[i + 2] == 1 then
        shadowed[#shadowed + 1] = plan[i + 3]
      elseif not entry or (wait ~= NEVER and limit == 0) then
        entry, used, wait = plan[i + 3], count, limit == 0 and NEVER or 0
      end
    end
    i = i + RUNNING
  end
  return entry, used, wait
end

local function write_spend()
  local fields = {}
  for n = 1, 3 * some do
    fields[2 * n - 1], fields[2 * n] = names[n], (spent[n] or 0) + nano
  end
  call('HSET', SPEND, unpack(fields))
end

-- Whether it was written: not if there is a record of this id.
local function write_reservation(after)
  local fields, ticks, k = {}, {}, 0
  local i = RATES
  for n = 1, many do
    local full, amount = after[n], taking[plan[i + 1]] * plan[i + 2]
    if amount > 0 then
      fields[k + 1], fields[k + 2] = plan[NAMES + n], floor(full * PARTS + 0.5)
      k = k + 2
    end
    -- a shadow that counted a part of it gives nothing back
    ticks[n] = amount > 0 and full >= fulls[n] + amount and full or 0
    i = i + BUCKET
  end
  for n = many + 1, many + runs do
    fields[k + 1], fields[k + 2] = plan[NAMES + n], (values[n] or 0) + 1
    k = k + 2
  end
  local record = cmsgpack.pack(now, nano, taking[1], taking[2], taking[3], taking[4], taking[5], ARGV[5]) .. ARGV[2]
  if many > 0 then
    record = record .. cmsgpack.pack(unpack(ticks))
  end
  if not call('SET', RECORD .. id, record, 'NX') then
    return false
  end
  if k > 0 then
    call('HSET', BUCKETS, unpack(fields))
  end
  if nano > 0 then
    write_spend()
  end
  call('ZADD', LEASES, now + ARGV[4], id)
  fulls = after
  return true
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
    local reply = with_levels(REFUSED, now)
    reply[9], reply[10], reply[11] = entry, used, wait
    return reply
  elseif not write_reservation(after) then
    return earlier()
  end
  local reply = with_levels(ADMITTED, now)
  for n = 1, #shadowed do
    reply[8 + n] = shadowed[n]
  end
  return reply
end

local reply = objection() or attempt()
if reply[1] == ADMITTED then
  return reply
end
reply = earlier() or reply
if reply[1] ~= REFUSED then
  return reply
end
