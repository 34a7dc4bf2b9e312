-- An attempt to commit has come to nothing: its claim goes, and those of others stay.
-- KEYS: k   ARGV: the attempt
local claims = redis.call('GET', KEYS[1])
if not claims or claims == 'r' then return 0 end
local from, to = string.find(claims, ARGV[1] .. ';', 1, true)
if not from then return 0 end
claims = string.sub(claims, 1, from - 1) .. string.sub(claims, to + 1)
if claims == 'c' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], claims, 'KEEPTTL') end
return 1
