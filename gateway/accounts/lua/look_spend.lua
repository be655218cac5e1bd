-- What must be known at one instant to say whether the counters of spend are right. Behind windows.lua, records.lua,
-- fields.lua and endings.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2]   a position in the usage stream, or ''
-- ARGV[3]   how many entries behind it are read at most
-- ARGV[4..] fields of `spend`
-- Returns {now, epoch or '', the values of the fields as text ('' for none),
--          the entries, each {position, 'id', .., 'e', ..},
--          what is reserved: of each living reservation {its instant, nano-dollars, subject, ..}}
--
-- Its time grows with all three: it is for a look now and then.
local names = {}
for i = 4, #ARGV do
  names[#names + 1] = ARGV[i]
end
local values = read_fields(SPEND, names)
for n = 1, #names do
  values[n] = values[n] or ''
end
local entries = {}
for _, entry in ipairs(call('XRANGE', STREAM, ARGV[2] == '' and '-' or '(' .. ARGV[2], '+', 'COUNT', ARGV[3])) do
  entries[#entries + 1] = { entry[1], unpack(entry[2]) }
end
local held = {}
for _, id in ipairs(call('ZRANGE', LEASES, 0, -1)) do
  local raw = call('GET', RECORD .. id)
  if is_living(raw) then
    local took = { cmsgpack.unpack(raw) }
    local first, last = subjects_of(took)
    held[#held + 1] = { took[AT], took[NANO], unpack(took, first, last) }
  end
end
return { now, call('HGET', base .. 'versions', 'epoch') or '', values, entries, held }
