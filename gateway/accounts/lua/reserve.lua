-- Takes what a call needs from everything that limits it, or nothing. Behind windows.lua and
-- records.lua; what follows runs only if it would be refused.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  now in µs, or 0
-- ARGV[2]  the plan: see records.lua
-- ARGV[3]  as MessagePack an array: id of the reservation; its lease in µs; its event, should it never be settled:
--          JSON without at_us, or '' for none; what it takes of the five units; nano-dollars
-- Returns, first of all, what became of it:
--   {1, at_us, levels.., numbers of shadow limits that would have refused..}   it has it, now or from an earlier call
--   {2, at_us, levels.., number of the limit that refused, used, wait in µs or -1: never}
--   {3, at_us, version of the documents, whether the key changed, field, document or nil, ..}   the plan is out of date
--   {4, at_us}  the counters are not open  {5, at_us}  it was cancelled, settled without it, or swept
-- levels: of the tightest bucket of requests, then of tokens: number of the limit or -1, what remains, µs until it is
-- full.
--
-- Calls of the server, at most: TIME, HMGET of versions, of buckets and running counts, of spend (with the earlier days
-- of a limit per week); SET, if there is no such record; HSET of buckets and counts, and of spend, ZADD. Whatever is
-- not admitted looks for an earlier record: GET. A refusal writes nothing, but looks for what has expired:
-- ZRANGEBYSCORE.
local ADMITTED, REFUSED, STALE, CLOSED, CANCELLED = 1, 2, 3, 4, 5
local NEVER = -1

local wanted = cmsgpack.unpack(ARGV[3])
local id, lease, nano = wanted[1], wanted[2], wanted[9]
local taking = { wanted[4], wanted[5], wanted[6], wanted[7], wanted[8] }
local plan = { cmsgpack.unpack(ARGV[2]) }

-- The reply of one that is admitted or refused: what remains in buckets that are full at these ticks.
local function with_levels(kind, at, fulls)
  local entry, left, reset = -1, 0, 0 -- of requests
  local entry2, left2, reset2 = -1, 0, 0 -- of tokens
  local i = NAMES + plan[5] + plan[6] + plan[7]
  for n = 1, plan[5] do
    local unit = plan[i + 1]
    if unit <= 2 and plan[i + 4] == 0 then
      local rest = fulls[n] - tick
      local remains = (plan[i + 3] - rest) / plan[i + 2]
      remains = remains > 0 and remains - remains % 1 or 0
      if unit == 1 then
        if entry < 0 or remains < left then
          entry, left, reset = plan[i + 5], remains, rest
        end
      elseif entry2 < 0 or remains < left2 then
        entry2, left2, reset2 = plan[i + 5], remains, rest
      end
    end
    i = i + BUCKET
  end
  return { kind, at, entry, left, ceil(reset), entry2, left2, ceil(reset2) }
end

-- Names and values of spend: of the day by subject, of the month, of all time; then, for each limit per week, of its
-- earlier days. Then how many these are.
local function read_spend(subjects, spends)
  local many, names = plan[7], {}
  local today = floor(now / DAY_US)
  local day, month, total = windows_of(today)
  for s = 1, many do
    local subject = plan[subjects + s]
    names[s], names[many + s], names[2 * many + s] = day .. subject, month .. subject, total .. subject
  end
  local earlier_days = (today + 3) % 7
  for i = spends, spends + (plan[8] - 1) * LIMIT, LIMIT do
    if plan[i + 2] == 1 then
      for one = today - earlier_days, today - 1 do
        names[#names + 1] = 'd' .. one .. ':' .. plan[subjects + plan[i + 1]]
      end
    end
  end
  return names, call('HMGET', SPEND, unpack(names)), earlier_days
end

-- Takes all or nothing, as far as limits go; the reply, or nil if there is a record of this id.
local function attempt()
  local many, runs = plan[5], plan[6]
  local subjects = NAMES + many + runs
  local rates = subjects + plan[7]
  local spends = rates + many * BUCKET + runs * RUNNING
  local entry, used, wait -- the limit that refuses: its number, what is used, the wait
  local shadowed = {}
  local fulls, ticks, changed, k = {}, {}, {}, 0 -- of buckets: when they are full again, as they are and then
  local values = many + runs > 0 and call('HMGET', BUCKETS, unpack(plan, NAMES + 1, subjects))

  -- Spend: the first limit that refuses. A call that costs nothing is never refused by one.
  local names, spent, earlier_days
  if nano > 0 then
    names, spent, earlier_days = read_spend(subjects, spends)
    local week = 3 * plan[7]
    for i = spends, spends + (plan[8] - 1) * LIMIT, LIMIT do
      local already = tonumber(spent[plan[i + 1]]) or 0
      if plan[i + 2] == 1 then
        for n = week + 1, week + earlier_days do
          already = already + (spent[n] or 0)
        end
        week = week + earlier_days
      end
      if already + nano > plan[i + 3] then
        if plan[i + 4] == 0 then
          entry, used, wait = plan[i + 5], already, NEVER
          break
        end
        shadowed[#shadowed + 1] = plan[i + 5]
      end
    end
  end
  local poor = entry

  -- Buckets and what runs: of those that refuse, the one that does so longest.
  local i, after, now_full = rates, {}, nil
  for n = 1, many do
    now_full = (values[n] or 0) / PARTS
    if now_full < tick then
      now_full = tick
    end
    local amount, moved = taking[plan[i + 1]], now_full
    local given = 0
    if amount > 0 then
      local per, capacity = plan[i + 2], plan[i + 3]
      amount = amount * per
      moved = now_full + amount
      given = moved
      local over = moved - tick - capacity
      if over > 0 and not poor then
        if plan[i + 4] == 1 then
          moved = max(now_full, tick + capacity)
          given = 0 -- a shadow that counted a part of it gives nothing back
          shadowed[#shadowed + 1] = plan[i + 5]
        else
          local this = amount > capacity and NEVER or ceil(over)
          if not entry or (wait ~= NEVER and (this == NEVER or this > wait)) then
            entry, used, wait = plan[i + 5], ceil((now_full - tick) / per - 0.01), this
          end
        end
      end
      local parts = moved * PARTS + 0.5
      changed[k + 1], changed[k + 2] = plan[NAMES + n], parts - parts % 1
      k = k + 2
    end
    fulls[n], after[n], ticks[n] = now_full, moved, given
    i = i + BUCKET
  end
  for n = many + 1, many + runs do
    local count, limit = (values[n] or 0) + 0, plan[i + 1]
    if count >= limit and not poor then
      if plan[i + 2] == 1 then
        shadowed[#shadowed + 1] = plan[i + 3]
      elseif not entry or (wait ~= NEVER and limit == 0) then
        entry, used, wait = plan[i + 3], count, limit == 0 and NEVER or 0
      end
    end
    changed[k + 1], changed[k + 2] = plan[NAMES + n], count + 1
    k = k + 2
    i = i + RUNNING
  end
  if entry then
    local reply = with_levels(REFUSED, now, fulls)
    reply[9], reply[10], reply[11] = entry, used, wait
    return reply
  end

  local record = cmsgpack.pack(now, nano, taking[1], taking[2], taking[3], taking[4], taking[5], wanted[3])
  if many > 0 then
    record = record .. ARGV[2] .. cmsgpack.pack(unpack(ticks))
  else
    record = record .. ARGV[2]
  end
  if not call('SET', RECORD .. id, record, 'NX') then
    return nil
  end
  if k > 0 then
    call('HSET', BUCKETS, unpack(changed))
  end
  if nano > 0 then
    local fields = {}
    for n = 1, 3 * plan[7] do
      fields[2 * n - 1], fields[2 * n] = names[n], (spent[n] or 0) + nano
    end
    call('HSET', SPEND, unpack(fields))
  end
  call('ZADD', LEASES, now + lease, id)
  local reply = with_levels(ADMITTED, now, after)
  for n = 1, #shadowed do
    reply[8 + n] = shadowed[n]
  end
  return reply
end

local versions = call('HMGET', base .. 'versions', 'epoch', 'limits', plan[3])
local version = tonumber(versions[2]) or plan[1] -- an emptied server knows nothing better than the worker
local key_changed = plan[2] > 0 and (tonumber(versions[3]) or 0) > plan[2]
local is_stale = version ~= plan[1] or key_changed
local is_closed = plan[4] == 1 and not versions[1]
local reply = not is_stale and not is_closed and attempt()
if reply and reply[1] == ADMITTED then
  return reply
end

local raw = call('GET', RECORD .. id)
if raw and not is_living(raw) then
  return { CANCELLED, now }
elseif raw then
  local fulls = {}
  local values = plan[5] > 0 and call('HMGET', BUCKETS, unpack(plan, NAMES + 1, NAMES + plan[5]))
  for n = 1, plan[5] do
    fulls[n] = max((values[n] or 0) / PARTS, tick)
  end
  return with_levels(ADMITTED, (cmsgpack.unpack(raw)), fulls)
elseif is_closed and not is_stale then
  return { CLOSED, now }
end

-- What has changed since the plan was made.
if is_stale then
  local stale = { STALE, now, version, key_changed and 1 or 0 }
  if version == plan[1] then
    return stale
  elseif plan[1] == 0 or version < plan[1] then
    for _, one in ipairs(call('HGETALL', base .. 'limits')) do
      stale[#stale + 1] = one
    end
    return stale
  end
  local above = string.format('(%.0f', plan[1])
  for _, field in ipairs(call('ZRANGEBYSCORE', base .. 'limits:log', above, '+inf')) do
    stale[#stale + 1] = field
    stale[#stale + 1] = call('HGET', base .. 'limits', field)
  end
  return stale
end
local most = 20 -- that have expired are swept then
