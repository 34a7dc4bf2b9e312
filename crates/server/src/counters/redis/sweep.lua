-- KEYS: x   ARGV: now in ms   Answers how much was freed, and 1 where more may be left.
local freed, is_behind = expire(KEYS[1], ARGV[1])
return {freed, is_behind and 1 or 0}
