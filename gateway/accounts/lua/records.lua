-- Part of every script that has to do with reservations: what their records hold. Behind windows.lua.
--
-- `r:<id>` is one of
--   a reservation: MessagePack of an array of numbers (below), of the plan as it was given, and of the
--                  provisional event
--   'x'            a tombstone: it was cancelled
--   'n' ..         a note: it was swept; MessagePack of its instant, what was charged, and the subjects of that
-- The numbers: [AT] its instant, [UNITS + u] what it took of unit u, [NANO] nano-dollars, [FULL + n] at which tick the
-- n-th bucket of the plan would have been full again right after it; 0 where there is nothing to be given back.
-- The plan: see reserve.lua.
local AT, UNITS, NANO, FULL = 1, 1, 7, 7
local PLAN_SUBJECTS, PLAN_BUCKETS, PLAN_SPENDS, PLAN_RUNNING = 4, 6, 7, 8
local BUCKET, SPEND, RUNNING = 6, 5, 4 -- how many numbers and names each takes in the plan
local SLACK_MS = 10000 -- a bucket's key outlives its use by so much, for the clocks of servers differ
local NOTE_S, TOMBSTONE_S = 86400, 120
local LEASES, STREAM, RECORD = base .. 'leases', base .. 'usage', base .. 'r:'

local function is_living(raw)
  return raw and raw ~= 'x' and raw:byte() ~= 110
end
