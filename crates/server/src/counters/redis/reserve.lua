-- Decides demands on one account as `billing::limit::decide` does, each after the one before it, and holds what is granted.
-- Every number is below 2^53, and so are the sums of what is asked for.
-- KEYS: a, h, x
-- ARGV: 1 prefix, 2 log, 3 user, 4 now in ms, 5 now in us, 6 holds that the caller has seen, 7 the last entry that the caller has
--       counted on the account, 8 the life of the account in which everything lies that the caller holds; then two lists, each
--       with its length before it: kinds (kind, its rate as the caller knows it), demands (id, number of its kind, quantity,
--       credits, expires in ms, cap of the day, cap of the period, what it adds to the rate in us, life of the pointer in ms).
--       Empty where there is none; a demand without an id only asks. Answers 'decided' and a line for each demand.
local prefix, log, user, now, now_us = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
expire(prefix, now)
local at = 8
local function next() at = at + 1; return ARGV[at] end

local fields, kinds = {'log', 'until', 'seq', 'credits', 'held', 'over', 'entry', 'life'}, {}
for i = 1, tonumber(next()) do
  local name = next()
  kinds[i] = {name = name, tat = tonumber(next()), more = 0}
  for _, letter in ipairs({'d:', 'm:', 'h:', 'r:'}) do fields[#fields + 1] = letter .. name end
end
local a = redis.call('HMGET', KEYS[1], unpack(fields))
if a[1] ~= log then return {'missing'} end
-- The account began anew, or fewer holds were given out than the caller has seen: some are lost, and the caller knows them.
if a[8] ~= ARGV[8] or tonumber(a[3] or 0) < tonumber(ARGV[6]) then return {'lost'} end
-- The account is older than the one that the caller has: not published yet, or a failover took it back.
if tonumber(a[7]) < tonumber(ARGV[7]) or tonumber(now) >= tonumber(a[2]) then return {'stale'} end
for i, kind in ipairs(kinds) do
  local before = 4 + 4 * i
  kind.day, kind.month, kind.held = tonumber(a[before + 1] or 0), tonumber(a[before + 2] or 0), tonumber(a[before + 3] or 0)
  kind.tat = math.max(kind.tat, tonumber(a[before + 4] or 0))
end

local count = tonumber(next())
local ids, known = {}, {}
for i = 0, count - 1 do
  local id = ARGV[at + 1 + 9 * i]
  if id ~= '' then ids[#ids + 1] = id end
end
if #ids > 0 then
  for i, hold in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do known[ids[i]] = hold end
end

local credits, held, seq, more = tonumber(a[4]), tonumber(a[5] or 0), tonumber(a[3] or 0), 0 -- credits: nil where it is 'all'
local holds, due = {}, {}
local function decide(id, kind, quantity, cost, expires, per_day, per_month, rate)
  if known[id] then return 'again' end
  if a[6] == '1' then return 'over' end
  if credits and credits - held - cost < 0 then return 'credits' end
  if per_day ~= '' and tonumber(per_day) - (kind.day + kind.held) - quantity < 0 then return 'day' end
  if per_month ~= '' and tonumber(per_month) - (kind.month + kind.held) - quantity < 0 then return 'month' end
  local after
  if rate ~= '' then
    after = math.min(math.max(kind.tat - now_us, 0), 60000000) + tonumber(rate)
    if after > 60000000 then return 'minute' end
  end
  if id == '' then return 'granted' end
  if after then kind.tat, kind.moved = now_us + after, true end
  held, more, seq = held + cost, more + cost, seq + 1
  kind.held, kind.more = kind.held + quantity, kind.more + quantity
  known[id] = string.format('h:%.0f:%.0f:%s:%s', quantity, cost, expires, kind.name)
  holds[#holds + 1], holds[#holds + 2] = id, known[id]
  due[#due + 1], due[#due + 2] = expires, user .. '\0' .. id
  return 'granted'
end

local answers = {'decided'}
for i = 1, count do
  local id, kind, quantity, cost, expires = next(), kinds[tonumber(next())], tonumber(next()), tonumber(next()), next()
  local per_day, per_month, rate, pointer_ms = next(), next(), next(), next()
  local held_before, kind_before = held, kind.held
  local what = decide(id, kind, quantity, cost, expires, per_day, per_month, rate)
  if what == 'granted' and pointer_ms ~= '' then
    local pointer = user .. '\0' .. string.format('%.0f', quantity) .. ':' .. expires .. ':' .. kind.name
    redis.call('SET', prefix .. 'r:' .. id, pointer, 'PX', pointer_ms)
  end
  answers[i + 1] = string.format('%s %s %.0f %.0f %.0f %.0f %.0f %.0f %s', what, a[4], held_before, kind.day, kind.month,
    kind_before, kind.tat, seq, what == 'again' and known[id] or '')
end

if #holds > 0 then
  redis.call('HSET', KEYS[2], unpack(holds))
  redis.call('ZADD', KEYS[3], unpack(due))
  redis.call('HINCRBY', KEYS[1], 'seq', #holds / 2)
  redis.call('HINCRBY', KEYS[1], 'held', string.format('%.0f', more))
  for _, kind in ipairs(kinds) do
    if kind.more > 0 then redis.call('HINCRBY', KEYS[1], 'h:' .. kind.name, string.format('%.0f', kind.more)) end
    if kind.moved then redis.call('HSET', KEYS[1], 'r:' .. kind.name, string.format('%.0f', kind.tat)) end
  end
end
return answers
