-- Frees a hold, at most once. It is remembered as released until it would have expired.
-- KEYS: a, h   ARGV: id
local hold = redis.pcall('HGET', KEYS[2], ARGV[1])
if not hold or type(hold) == 'table' then return 'unknown' end -- or it is of another kind, which whoever asks next puts right
local state, quantity, credits, expires, kind = string.match(hold, '^(%a):(%d+):(%d+):(%d+):(.*)$')
if state == 'r' then return 'released' end
if state == 'c' then return 'committed' end
redis.call('HSET', KEYS[2], ARGV[1], 'r:' .. quantity .. ':' .. credits .. ':' .. expires .. ':' .. kind)
if credits ~= '0' then redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits) end
if quantity ~= '0' then redis.call('HINCRBY', KEYS[1], 'h:' .. kind, '-' .. quantity) end
return 'now'
