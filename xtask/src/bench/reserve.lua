-- A reservation and nothing else, as a yardstick: look at the account, is the id new, hold it.
-- KEYS: account, holds, due   ARGV: id, amount, expires
local a = redis.call('HMGET', KEYS[1], 'avail', 'held', 'until')
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return {2} end
if tonumber(ARGV[2]) > (tonumber(a[1]) or 1e15) - (tonumber(a[2]) or 0) then return {0} end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('HINCRBY', KEYS[1], 'held', ARGV[2])
return {1}
