-- Decides a demand as `billing::limit::decide` does, and holds it. Every number is below 2^53.
-- KEYS: a, h, x, pointer
-- ARGV: 1 prefix, 2 log, 3 id, 4 user, 5 kind, 6 quantity, 7 credits, 8 expires in ms, 9 now in ms, 10 cap of the day, 11 cap of
--       the period, 12 what it adds to the rate in us, 13 the rate as the caller knows it, 14 now in us, 15 holds that the caller
--       has seen, 16 '1' to hold it, 17 life of the pointer in ms, 18 the last entry that the caller has counted on the account,
--       19 the life of the account in which everything lies that the caller holds.
--       Empty where there is none.
local prefix, log, id, user, kind, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9]
expire(prefix, now)
local a = redis.call('HMGET', KEYS[1], 'log', 'until', 'seq', 'credits', 'held', 'd:' .. kind, 'm:' .. kind, 'h:' .. kind,
  'r:' .. kind, 'over', 'entry', 'life')
if a[1] ~= log then return {'missing'} end
local credits, held, day, month, held_kind = a[4], a[5] or '0', a[6] or '0', a[7] or '0', a[8] or '0'
local tat, seq = a[9] or '0', a[3] or '0'
if tonumber(ARGV[13]) > tonumber(tat) then tat = ARGV[13] end
local function answer(what, hold) return {what, credits, held, day, month, held_kind, tat, seq, hold or ''} end
-- The account began anew, or fewer holds were given out than the caller has seen: some are lost, and the caller knows them.
if a[12] ~= ARGV[19] or tonumber(seq) < tonumber(ARGV[15]) then return {'lost'} end
-- The account is older than the one that the caller has: not published yet, or a failover took it back.
if tonumber(a[11]) < tonumber(ARGV[18]) or tonumber(now) >= tonumber(a[2]) then return {'stale'} end
if id ~= '' then
  local hold = redis.call('HGET', KEYS[2], id)
  if hold then return answer('again', hold) end
end
if a[10] == '1' then return answer('over') end
if credits ~= 'all' and tonumber(credits) - tonumber(held) - tonumber(ARGV[7]) < 0 then return answer('credits') end
local quantity = tonumber(ARGV[6])
if ARGV[10] ~= '' and tonumber(ARGV[10]) - (tonumber(day) + tonumber(held_kind)) - quantity < 0 then return answer('day') end
if ARGV[11] ~= '' and tonumber(ARGV[11]) - (tonumber(month) + tonumber(held_kind)) - quantity < 0 then return answer('month') end
if ARGV[12] ~= '' then
  local debt = math.min(math.max(tonumber(tat) - tonumber(ARGV[14]), 0), 60000000)
  local after = debt + tonumber(ARGV[12])
  if after > 60000000 then return answer('minute') end
  tat = string.format('%.0f', tonumber(ARGV[14]) + after)
end
if ARGV[16] ~= '1' then return answer('granted') end
if ARGV[12] ~= '' then redis.call('HSET', KEYS[1], 'r:' .. kind, tat) end
redis.call('HSET', KEYS[2], id, 'h:' .. ARGV[6] .. ':' .. ARGV[7] .. ':' .. ARGV[8] .. ':' .. kind)
redis.call('ZADD', KEYS[3], ARGV[8], user .. '\0' .. id)
redis.call('HINCRBY', KEYS[1], 'held', ARGV[7])
redis.call('HINCRBY', KEYS[1], 'h:' .. kind, ARGV[6])
seq = tostring(redis.call('HINCRBY', KEYS[1], 'seq', 1))
if ARGV[17] ~= '' then
  redis.call('SET', KEYS[4], user .. '\0' .. ARGV[6] .. ':' .. ARGV[8] .. ':' .. kind, 'PX', ARGV[17])
end
return answer('granted')
