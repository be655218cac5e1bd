-- What subjects have spent so far, what is reserved included. Behind windows.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2..] subjects ('o', 'p:..', 'u:..', 'k:..')
-- Returns {now, epoch or nil, then for each subject: day, week, month, total, in nano-dollars}
local subjects = {}
for i = 2, #ARGV do
  subjects[#subjects + 1] = ARGV[i]
end
local day, month, total = windows_of(now)
local reply = { now, redis.call('HGET', base .. 'versions', 'epoch') }
local today = floor(now / DAY_US)
local week = {}
for one = today - (today + 3) % 7, today do
  for s, value in ipairs(redis.call('HMGET', base .. 'spend:d:' .. one, unpack(subjects))) do
    week[s] = (week[s] or 0) + (value or 0)
  end
end
local days = redis.call('HMGET', day, unpack(subjects))
local months = redis.call('HMGET', month, unpack(subjects))
local totals = redis.call('HMGET', total, unpack(subjects))
for s = 1, #subjects do
  for _, value in ipairs({ days[s] or 0, week[s], months[s] or 0, totals[s] or 0 }) do
    reply[#reply + 1] = tonumber(value)
  end
end
return reply
