-- The end of scripts that leave their `reply` and then write.
return reply
