-- Decides demands on one account as `billing::limit::decide` does, each after the one before it, and holds what is granted.
-- KEYS: a, h, x
-- ARGV: 1 prefix, 2 log, 3 user, 4 now in ms, 5 now in us, 6 how often the caller has held or released something, as far as it
--       knows, 7 the last entry that it has counted on the account, 8 the life of the account in which everything lies that it
--       holds, 9 the field in which it counts; then two lists, each with its length before it: kinds (kind, its rate as the caller knows it), demands (id, number of its kind, quantity,
--       credits, expires in ms, cap of the day, cap of the period, what it adds to the rate in us, life of the pointer in ms).
--       Empty where there is none; a demand without an id only asks, and with 'rate' as the last it uses up its rate. Answers 'decided' and a line for each demand.
local call, tonumber, format = redis.call, tonumber, string.format
local EXACT = 9007199254740991 -- every number is a whole one up to this, and so is every sum of what is held
local prefix, log, user, now, now_us = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
expire(prefix, now)

local at, fields, kinds = 10, {'log', 'until', ARGV[9], 'credits', 'held', 'over', 'entry', 'life'}, {}
for i = 1, tonumber(ARGV[at]) do
  local name, before = ARGV[at + 1], 4 + 4 * i
  kinds[i] = {name = name, tat = tonumber(ARGV[at + 2])}
  fields[before + 1], fields[before + 2] = 'd:' .. name, 'm:' .. name
  fields[before + 3], fields[before + 4] = 'h:' .. name, 'r:' .. name
  at = at + 2
end
local a = redis.pcall('HMGET', KEYS[1], unpack(fields))
if a.err then call('DEL', KEYS[1], KEYS[2]) end -- of another kind: it is published anew
if a.err or a[1] ~= log then return {'missing'} end
-- The account began anew, or less was done to it than the caller has done: some of it is lost, and the caller knows what.
local seq = tonumber(a[3] or 0)
if a[8] ~= ARGV[8] or seq < tonumber(ARGV[6]) then return {'lost'} end
-- The account is older than the one that the caller has: not published yet, or a failover took it back.
if tonumber(a[7]) < tonumber(ARGV[7]) or tonumber(now) >= tonumber(a[2]) then return {'stale'} end
for i, kind in ipairs(kinds) do
  local before = 4 + 4 * i
  kind.day, kind.month, kind.held = tonumber(a[before + 1] or 0), tonumber(a[before + 2] or 0), tonumber(a[before + 3] or 0)
  kind.tat = math.max(kind.tat, tonumber(a[before + 4] or 0))
end

local first, last, ids, known = at + 2, at + 1 + 9 * tonumber(ARGV[at + 1]), {}, {}
for line = first, last, 9 do
  if ARGV[line] ~= '' then ids[#ids + 1] = ARGV[line] end
end
if #ids > 0 then
  local there = redis.pcall('HMGET', KEYS[2], unpack(ids))
  if there.err then
    call('DEL', KEYS[1], KEYS[2])
    return {'missing'}
  end
  for i, hold in ipairs(there) do known[ids[i]] = hold end
end

local credits, held = tonumber(a[4]), tonumber(a[5] or 0) -- credits: nil where it is 'all'
local function refused(kind, quantity, cost, per_day, per_month)
  if a[6] == '1' then return 'over' end
  if credits and credits - held - cost < 0 then return 'credits' end
  if per_day ~= '' and tonumber(per_day) - (kind.day + kind.held) - quantity < 0 then return 'day' end
  if per_month ~= '' and tonumber(per_month) - (kind.month + kind.held) - quantity < 0 then return 'month' end
  if held + cost > EXACT or kind.held + quantity > EXACT then return 'uncountable' end
end

local answers, holds, due = {'decided'}, {}, {}
for line = first, last, 9 do
  local id, kind, rate = ARGV[line], kinds[tonumber(ARGV[line + 1])], ARGV[line + 7]
  local quantity, cost, expires = tonumber(ARGV[line + 2]), tonumber(ARGV[line + 3]), ARGV[line + 4]
  local held_before, kind_before, again = held, kind.held, known[id]
  local what = again and 'again' or refused(kind, quantity, cost, ARGV[line + 5], ARGV[line + 6])
  local after
  if not what and rate ~= '' then
    after = math.min(math.max(kind.tat - now_us, 0), 60000000) + tonumber(rate)
    if after > 60000000 then what = 'minute' end
  end
  if not what and after and (id ~= '' or ARGV[line + 8] == 'rate') then kind.tat, kind.moved = now_us + after, true end
  if not what and id ~= '' then
    held, kind.held, seq = held + cost, kind.held + quantity, seq + 1
    local hold = ARGV[line + 2] .. ':' .. ARGV[line + 3] .. ':' .. expires .. ':' .. kind.name
    known[id] = 'h:' .. hold
    holds[#holds + 1], holds[#holds + 2] = id, known[id]
    due[#due + 1], due[#due + 2] = expires, user .. '\0' .. id
    if ARGV[line + 8] ~= '' then
      local pointer = user .. '\0' .. ARGV[line + 2] .. ':' .. expires .. ':' .. kind.name
      call('SET', prefix .. 'r:' .. id, pointer, 'PX', ARGV[line + 8])
    end
  end
  answers[#answers + 1] = format('%s %s %.0f %.0f %.0f %.0f %.0f %.0f %s', what or 'granted', a[4], held_before, kind.day,
    kind.month, kind_before, kind.tat, seq, again or '')
end

local moved = {}
for _, kind in ipairs(kinds) do
  if #holds > 0 then moved[#moved + 1], moved[#moved + 2] = 'h:' .. kind.name, format('%.0f', kind.held) end
  if kind.moved then moved[#moved + 1], moved[#moved + 2] = 'r:' .. kind.name, format('%.0f', kind.tat) end
end
-- Programs that ended long ago leave their counts behind. Whoever lives begins to count again.
if #holds > 0 and not a[3] then
  local old = {}
  for _, field in ipairs(call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'n:' then old[#old + 1] = field end
  end
  if #old >= 16 then call('HDEL', KEYS[1], unpack(old)) end
end
if #moved > 0 then call('HSET', KEYS[1], ARGV[9], format('%.0f', seq), 'held', format('%.0f', held), unpack(moved)) end
if #holds > 0 then
  call('HSET', KEYS[2], unpack(holds))
  call('ZADD', KEYS[3], unpack(due))
end
return answers
