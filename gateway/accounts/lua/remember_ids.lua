-- Makes ids of events known, as settle.lua does, without the events.
--
-- KEYS[1]   the set of a minute
-- ARGV[1]   how long it lives after this, in seconds
-- ARGV[2..] ids
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
return redis.call('EXPIRE', KEYS[1], ARGV[1])
