-- Ends reservations whose lease is over, at most `most`: what they took stays taken, but they run no more. Behind
-- endings.lua; leaves `swept`, how many, and `failed`, the error if the stream did not take an event.
local swept, failed = 0, nil
for _, late in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, most)) do
  local raw = call('GET', RECORD .. late)
  if is_living(raw) then
    local took = { cmsgpack.unpack(raw) }
    if took[EVENT] ~= '' then
      local event = string.format('{"at_us":%.0f,', took[AT]) .. took[EVENT]:sub(2)
      local done = redis.pcall('XADD', STREAM, '*', 'id', late, 'e', event)
      if type(done) == 'table' then
        failed = done
        break
      end
    end
    local note = 'n' .. cmsgpack.pack(took[AT], took[NANO], unpack(took, subjects_of(took)))
    call('SET', RECORD .. late, note, 'EX', NOTE_S)
    endings[#endings + 1] = took
    endings[#endings + 1] = {}
    swept = swept + 1
  end
  unleased[#unleased + 1] = late
end
