-- Settles calls of one organization, in order, each once: what was reserved becomes what was used, and the event goes
-- into the stream. Behind windows.lua, records.lua, fields.lua and endings.lua, before write.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2]   how long the ids of a minute live after this, in seconds
-- ARGV[3]   how many events the stream takes; 0: no bound
-- ARGV[4..] for each settlement two: the event as JSON ('': there is none); as MessagePack an array of the minute of the
--           event, its id, the reservation's id ('': the event's), tokens, images, audio bytes, batch tokens,
--           nano-dollars (nil for one: as it was reserved); of an event that is sent again, the epoch in which Redis
--           took it before; true for what is settled ahead of its event, which comes later
-- Returns how many events were appended; the others were there already. The error STREAMFULL if there is no room; then
-- nothing is done. An error if the stream did not take one: those before it are settled, the others not at all.
--
-- What is settled ahead leaves a note, as what is swept does: the event that comes is charged with what differs.
--
-- An event that is sent again was lost together with what it cost, if the counters are the same (its epoch) or have not
-- been opened since they were lost. Others were made from the ledger, and ids that it has of the last minutes are known.
-- Of an older event it is not known whether the ledger has it: one without a reservation costs nothing here.
--
-- An event whose id its minute knows is not appended, and costs nothing, again; should a reservation have appeared for
-- it since, then that ends. One without a reservation is charged in full, and leaves a tombstone: a reserve that is
-- late does nothing. One that was swept is corrected.
--
-- Calls of the server, at most, for one: TIME, XLEN, SADD, XADD, GET, HMGET and HSET of buckets and running counts, the
-- same of spend, DEL, ZREM, EXPIRE. In a batch all but SADD, XADD and GET are shared. One without a reservation: TIME,
-- XLEN, SADD, XADD, GET, SET, HMGET and HSET of spend, EXPIRE; if it is sent again, HGET of versions.
local room = tonumber(ARGV[3])
if room > 0 and call('XLEN', STREAM) >= room then
  return redis.error_reply('STREAMFULL nobody folds the usage stream, and it is as long as it may be')
end
local ended, minutes = {}, {}
local appended, failed = 0, nil
local epoch -- of the counters, once it was asked for

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
    local project, user = found.project_id, found.user_id
    if type(project) == 'string' and type(user) == 'string' and project ~= '' and user ~= ''
        and user:sub(1, 9) ~= 'svc_acct_' then
      subjects[#subjects + 1] = 'm:' .. project .. ':' .. user
    end
  end
  return subjects
end

for i = 4, #ARGV, 2 do
  local event, used = ARGV[i], cmsgpack.unpack(ARGV[i + 1])
  local minute, event_id, id, nano = used[1], used[2], used[3], used[8]
  if id == '' then
    id = event_id
  end
  local fresh = true -- the event was not there yet
  if event ~= '' then
    local ids = base .. 'usage:ids:' .. minute
    minutes[ids] = true
    fresh = call('SADD', ids, event_id) == 1
    if fresh then
      local done = redis.pcall('XADD', STREAM, '*', 'id', event_id, 'e', event)
      if type(done) == 'table' then
        call('SREM', ids, event_id) -- or the next attempt would take it for appended
        failed = done
        break
      end
      appended = appended + 1
    end
  end
  local raw = not ended[id] and call('GET', RECORD .. id)
  if is_living(raw) then
    local took = { cmsgpack.unpack(raw) }
    local first, last = subjects_of(took)
    endings[#endings + 1] = took
    endings[#endings + 1] = { nil, used[4], used[5], used[6], used[7] }
    local cost = fresh and (nano or took[NANO]) or 0
    charge(took[AT], took, first, last, cost - took[NANO])
    unleased[#unleased + 1] = id
    ended[id] = true
    if used[10] then
      call('SET', RECORD .. id, 'n' .. cmsgpack.pack(took[AT], cost, unpack(took, first, last)), 'EX', NOTE_S)
    else
      gone[#gone + 1] = RECORD .. id
    end
  elseif raw and raw ~= 'x' then
    if event ~= '' and fresh then -- else what the sweep charged is what its event says
      local note = { cmsgpack.unpack(raw:sub(2)) }
      charge(note[1], note, 3, #note, (nano or note[2]) - note[2])
      ended[id] = true
      gone[#gone + 1] = RECORD .. id
    end
  elseif fresh and event ~= '' then -- nobody reserved for it, or the reserve is still to come
    if not raw and not ended[id] then
      call('SET', RECORD .. id, 'x', 'EX', TOMBSTONE_S)
    end
    local before = used[9]
    if before and epoch == nil then
      epoch = call('HGET', base .. 'versions', 'epoch')
    end
    local charged = not before or not epoch or epoch == before or minute > (now / 1000000 - ARGV[2]) / 60
    if charged and nano and nano > 0 then
      local subjects = named_in(event)
      charge(minute * 60000000, subjects, 1, #subjects, nano)
    end
  end
end
for ids in pairs(minutes) do
  call('EXPIRE', ids, ARGV[2])
end
local reply = failed or appended
