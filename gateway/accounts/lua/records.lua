-- Part of every script that has to do with reservations: plans, and what records hold. Behind windows.lua.
--
-- A plan is a row of values, each as MessagePack, one behind the other (plan.py makes it):
--   1 version of the limit documents, 2 version of the key's record (0: not to be checked), 3 the key's field in
--   `versions`, 4 whether a spend limit can refuse (0, 1),
--   5 how many buckets, 6 running counts, 7 subjects of spend, 8 spend limits there are;
--   then the names of buckets, those of running counts, and the subjects, the organization's first;
--   of each bucket: unit (1 requests, 2 tokens, 3 images, 4 audio bytes, 5 batch tokens), µs that one refills
--     in, capacity in µs and a tolerance, shadow (0, 1), number of the limit;
--   of each running count: limit, shadow, number of the limit;
--   of each spend limit: which of all the windows (those of the day by subject, of the month, of all time), whether it
--     is the week that ends with this day (0, 1), nano-dollars, shadow, number of the limit.
--
-- `r:<id>` is one of
--   a reservation: a row likewise: its instant, nano-dollars, what it took of the five units, the provisional event;
--                  then the plan; then, for each bucket of it, at which tick it would have been full again right after
--                  that, or 0 where there is nothing to be given back
--   'x'            a tombstone: it was cancelled, or settled before it came
--   'n' ..         a note: it was swept, or settled ahead of its event; a row of its instant, what was charged, and the
--                  subjects of that
local AT, NANO, UNITS, EVENT, PLAN = 1, 2, 2, 8, 8 -- of a record: units and the plan's values are counted on from there
local NAMES = 8 -- of a plan: the first name comes behind that
local BUCKET, RUNNING, LIMIT = 5, 3, 5 -- how many values each takes
local SLACK_US = 10000000 -- a bucket's field outlives its use by so much, for the clocks of servers differ
local NOTE_S, TOMBSTONE_S = 86400, 120
local LEASES, STREAM, RECORD = base .. 'leases', base .. 'usage', base .. 'r:'

local function is_living(raw)
  return raw and raw ~= 'x' and raw:byte() ~= 110
end
