-- Adds to counters of spend what they lack. Behind windows.lua.
--
-- KEYS[1]   the organization's base key
-- ARGV[1]   now in µs, or 0
-- ARGV[2..] field, nano-dollars, field, ..
for i = 2, #ARGV, 2 do
  call('HINCRBY', SPEND, ARGV[i], ARGV[i + 1])
end
return #ARGV
