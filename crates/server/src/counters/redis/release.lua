-- Frees a hold, at most once. It is remembered as released until it would have expired.
-- KEYS: a, h, k (left out where somebody else may commit something under this id)   ARGV: id, the field in which the caller counts
--       what it does, how long it is remembered in ms that it is not to be committed. Answers what became of it, and that count.
local claim = KEYS[3] and redis.call('GET', KEYS[3])
if claim and claim ~= 'r' then return {'committed', 0} end -- its commit is on the way to the log
if KEYS[3] and not claim then redis.call('SET', KEYS[3], 'r', 'PX', ARGV[3]) end
local hold = redis.pcall('HGET', KEYS[2], ARGV[1])
if not hold or type(hold) == 'table' then return {'unknown', 0} end -- or it is of another kind, which whoever asks next puts right
local state, quantity, credits, expires, kind = string.match(hold, '^(%a): *(%d+):(%d+):(%d+):(.*)$')
if state == 'r' then return {'released', 0} end
if state == 'c' then return {'committed', 0} end
redis.call('HSET', KEYS[2], ARGV[1], 'r:' .. quantity .. ':' .. credits .. ':' .. expires .. ':' .. kind)
if credits ~= '0' then redis.call('HINCRBY', KEYS[1], 'held', '-' .. credits) end
if quantity ~= '0' then redis.call('HINCRBY', KEYS[1], 'h:' .. kind, '-' .. quantity) end
return {'now', redis.call('HINCRBY', KEYS[1], ARGV[2], 1)}
