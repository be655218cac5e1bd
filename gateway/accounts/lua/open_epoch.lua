-- Opens the counters of an organization, unless they are: without an epoch, spend limits refuse.
--
-- KEYS[1]  the organization's base key
-- ARGV[1]  the new epoch: any text
-- Returns 1 if it was set, 0 if there was one.
return redis.call('HSETNX', KEYS[1] .. ':versions', 'epoch', ARGV[1])
