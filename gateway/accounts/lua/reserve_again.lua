-- The end of the reserve script, behind reserve.lua and endings.lua: a call that is refused looks for what has expired,
-- and tries once more if that makes room.
local SWEEP = 20
if sweep(SWEEP) > 0 then
  write_endings()
  reply = attempt()
end
write_endings()
return reply
