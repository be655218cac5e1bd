-- The end of the reserve script, behind all else: a call that is refused looked for what has expired, and tries once
-- more if that made room.
if swept > 0 then
  reply = attempt()
end
return reply
