-- Settles calls of one organization, in order, each once: what was reserved becomes what was used, and the event goes
-- into the stream. Behind windows.lua, records.lua, fields.lua and endings.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2]   how long the ids of a minute live after this, in seconds
-- ARGV[3..] for each settlement nine: the minute of its event, the event's id, the event as JSON ('': there is none),
--           the reservation's id ('': the event's), tokens, images, audio bytes, batch tokens, nano-dollars ('' for
--           one: as it was reserved)
-- Returns how many events were appended; the others were there already. An error if the stream did not take one: those
-- before it are settled, the others not at all.
--
-- An event whose id its minute knows is not appended, and costs nothing, again; should a reservation have appeared for
-- it since, then that ends. One without a reservation is charged in full, and leaves a tombstone: a reserve that is
-- late does nothing. One that was swept is corrected.
--
-- Calls of the server, at most, for one: TIME, SADD, XADD, GET, HMGET and HSET of buckets and running counts, the same
-- of spend, DEL, ZREM, EXPIRE. In a batch all but SADD, XADD and GET are shared. One without a reservation: TIME, SADD,
-- XADD, GET, SET, HMGET and HSET of spend, EXPIRE.
local FIELDS = 9
local ended, minutes = {}, {}
local appended, failed = 0, nil

-- Whether the event was not there yet; an error if the stream does not take it.
local function append(minute, id, event)
  local ids = base .. 'usage:ids:' .. minute
  minutes[ids] = true
  if call('SADD', ids, id) == 0 then
    return false
  end
  local done = redis.pcall('XADD', STREAM, '*', 'id', id, 'e', event)
  if type(done) == 'table' then
    call('SREM', ids, id) -- or the next attempt would take it for appended
    return false, done
  end
  appended = appended + 1
  return true
end

-- The subjects of an event whose reservation is not known: those that it names.
local function named_in(event)
  local subjects = { 'o' }
  local ok, found = pcall(cjson.decode, event)
  if ok and type(found) == 'table' then
    for _, kind in ipairs({ 'project', 'user', 'key' }) do
      local name = found[kind .. '_id']
      if type(name) == 'string' and name ~= '' then
        subjects[#subjects + 1] = kind:sub(1, 1) .. ':' .. name
      end
    end
  end
  return subjects
end

local function end_living(id, raw, i, fresh)
  local took = { cmsgpack.unpack(raw) }
  local first, last = subjects_of(took)
  give_back(took, {
    nil,
    tonumber(ARGV[i + 4]),
    tonumber(ARGV[i + 5]),
    tonumber(ARGV[i + 6]),
    tonumber(ARGV[i + 7]),
  })
  local nano = fresh and (tonumber(ARGV[i + 8]) or took[NANO]) or 0
  charge(took[AT], took, first, last, nano - took[NANO])
  unleased[#unleased + 1] = id
end

local function end_swept(raw, nano)
  local note = { cmsgpack.unpack(raw:sub(2)) }
  charge(note[1], note, 3, #note, (nano or note[2]) - note[2])
end

-- An event that nobody reserved for, or whose reserve is still to come.
local function charge_unknown(id, minute, event, nano)
  call('SET', RECORD .. id, 'x', 'EX', TOMBSTONE_S)
  if nano and nano > 0 then
    local subjects = named_in(event)
    charge(minute * 60000000, subjects, 1, #subjects, nano)
  end
end

local function settle(i)
  local minute, event, id = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  if id == '' then
    id = ARGV[i + 1]
  end
  local fresh = true
  if event ~= '' then
    fresh, failed = append(minute, ARGV[i + 1], event)
    if failed then
      return
    end
  end
  local raw = not ended[id] and call('GET', RECORD .. id)
  local nano = tonumber(ARGV[i + 8])
  if is_living(raw) then
    end_living(id, raw, i, fresh)
  elseif raw and raw ~= 'x' then
    if event == '' or not fresh then
      return -- what the sweep charged is what its event says
    end
    end_swept(raw, nano)
  else
    if fresh and event ~= '' then
      charge_unknown(id, minute, event, nano)
    end
    return
  end
  ended[id] = true
  gone[#gone + 1] = RECORD .. id
end

for i = 3, #ARGV, FIELDS do
  settle(i)
  if failed then
    break
  end
end
write_endings()
for ids in pairs(minutes) do
  call('EXPIRE', ids, ARGV[2])
end
return failed or appended
