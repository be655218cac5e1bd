-- Ends reservations whose lease is over. Behind windows.lua, records.lua, fields.lua and
-- endings.lua, before expired.lua and what writes.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  now in µs, or 0
-- ARGV[2]  how many at most
-- Returns how many it ended; an error if the stream did not take an event.
--
-- Calls of the server: TIME, ZRANGEBYSCORE; GET, XADD and SET each; HMGET and HSET of running counts, ZREM.
local most = tonumber(ARGV[2])
