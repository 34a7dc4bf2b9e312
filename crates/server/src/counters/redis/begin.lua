-- Claims for an attempt to commit, beside others, that it may go to the log, unless somebody has released it. Each has a claim of its
-- own: one that comes to nothing leaves the others. KEYS: k   ARGV: the attempt, how long it is remembered in ms. Answers whether it may.
local claims = redis.call('GET', KEYS[1])
if claims == 'r' then return 0 end
claims = claims or 'c'
if not string.find(claims, ARGV[1] .. ';', 1, true) then claims = claims .. ARGV[1] .. ';' end
redis.call('SET', KEYS[1], claims, 'PX', ARGV[2])
return 1
