-- KEYS: the x of some shards   ARGV: now in ms
local freed = 0
for _, ends in ipairs(KEYS) do freed = freed + expire(ends, ARGV[1]) end
return freed
