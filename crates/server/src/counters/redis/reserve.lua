-- Decides demands on accounts as `billing::limit::decide` does, those on one account each after the one before it, and holds what
-- is granted. What this costs is most of what a reservation costs: no text is put together that the caller can send, and no
-- number is written as text that can be sent as one.
-- KEYS: x, then a and h of each account
-- ARGV: log, the field in which the caller counts what it does, now in ms, now in us; then of each account: the life of it in which
--       everything lies that the caller holds, figures (how many kinds follow, of how many fields, and how many demands; how often
--       the caller has held or released something of it, as far as it knows; the last entry that it has counted on it; the
--       instant until which it is right then by the caller's clock), kinds
--       (their fields: held and, where a demand has a limit, used on the day, used in the period, rate), demands (id, figures, hold,
--       member of x, expires in ms).
--       The figures of a demand: the number of its kind, 1 if it uses up its rate, quantity, credits, cap of the day, cap of the
--       period, what it adds to the rate in us, the rate as the caller knows it. -1 where there is none. Without an id it only asks.
-- Answers of each account a word why it could not be decided, or its credits, what is used of each kind with limits, and for each
-- demand: 0, why it is refused or what is held under its id; what was held before it, of credits and of its kind; the rate, the caller's count.
local call, try, figures = redis.call, redis.pcall, struct.unpack
local tonumber, unpack, max = tonumber, unpack, math.max
local EXACT = 9007199254740991 -- every number is a whole one up to this, and so is every sum of what is held
local MINUTE = 60000000
local log, own, now_ms, now_us = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = tonumber(now_ms)
local next, answers, size, placed = 5, {}, 0, {}
local _, is_behind = expire(KEYS[1], now_ms)

local function refusal(a, room, held, kind, kind_held, quantity, cost, per_day, per_month)
  if a[6] == '1' then return 1 end -- over
  if room and room - held - cost < 0 then return 2 end -- credits
  local used = 6 + 4 * kind
  if per_day >= 0 and per_day - (tonumber(a[used] or 0) + kind_held) - quantity < 0 then return 3 end -- day
  if per_month >= 0 and per_month - (tonumber(a[used + 1] or 0) + kind_held) - quantity < 0 then return 4 end -- month
  if held + cost > EXACT or kind_held + quantity > EXACT then return 5 end -- uncountable
end

local function decide(account, holds)
  local life, kinds = ARGV[next], next + 2
  local kind_count, width, demand_count, seen, entry, right_until = figures('<i4i4i4i8i8i8', ARGV[next + 1])
  local demands = kinds + width * kind_count
  next = demands + 5 * demand_count
  local a = try('HMGET', account, 'log', 'until', own, 'credits', 'held', 'over', 'entry', 'life', unpack(ARGV, kinds, demands - 1))
  if a.err then call('DEL', account, holds) end -- of another kind: it is published anew
  if a.err or a[1] ~= log then return 'missing' end
  -- The account began anew, or less was done to it than the caller has done: some of it is lost, and the caller knows what.
  local before = tonumber(a[3] or 0)
  if a[8] ~= life or before < seen then return 'lost' end
  -- The account is older than the one that the caller has: not published yet, or a failover took it back.
  if tonumber(a[7]) < entry or now >= tonumber(a[2]) then return 'stale' end
  -- It is that of a later day or period: the clock was set back since.
  if tonumber(a[7]) == entry and tonumber(a[2]) > right_until then return 'stale' end

  local room, held, count = tonumber(a[4]), tonumber(a[5] or 0), before -- room: nil where it is 'all'
  local helds, rates, moved = {}, {}, nil
  answers[size + 1] = a[4]
  size = size + 1
  for kind = 1, kind_count do
    local first = 9 + width * (kind - 1)
    helds[kind], rates[kind] = tonumber(a[first] or 0), 0
    if width > 1 then
      rates[kind] = tonumber(a[first + 3] or 0)
      answers[size + 1], answers[size + 2] = a[first + 1], a[first + 2]
      size = size + 2
    end
  end
  for line = demands, next - 5, 5 do
    local id = ARGV[line]
    local kind, takes, quantity, cost, per_day, per_month, adds, rate = figures('<i4i4i8i8i8i8i8i8', ARGV[line + 1])
    local held_before, kind_held, again = held, helds[kind], false
    rate = max(rate, rates[kind])
    local refused = refusal(a, room, held, kind, kind_held, quantity, cost, per_day, per_month)
    if refused and refused ~= 1 and is_behind then refused = 7 end -- it may be what is over that is in the way
    local after = nil
    if not refused and adds >= 0 then
      local debt = rate - now_us
      if debt > 2 * MINUTE then debt = 0 end -- of a clock that was set back since, as in the core
      after = max(debt, 0) + adds
      if after > MINUTE then refused = 6 end -- minute
    end
    if id ~= '' then
      local is_placed = not refused and try('HSETNX', holds, id, ARGV[line + 2])
      if is_placed ~= 1 then again = try('HGET', holds, id) end
      if type(again) == 'table' then -- of another kind, and nothing is written of the account yet
        call('DEL', account, holds)
        return 'missing'
      end
      if type(is_placed) == 'table' then error(is_placed) end -- it may not be written now: no memory, or a replica
      if is_placed == 1 then
        placed[#placed + 1], placed[#placed + 2] = ARGV[line + 4], ARGV[line + 3]
        held, count, helds[kind] = held + cost, count + 1, kind_held + quantity
      end
    end
    if not again and not refused and after and takes == 1 then
      rate = now_us + after
      rates[kind] = rate
      moved = moved or {}
      moved[kind] = rate
    end
    answers[size + 1], answers[size + 2], answers[size + 3] = again or refused or 0, held_before, kind_held
    answers[size + 4], answers[size + 5] = rate, count
    size = size + 5
  end

  -- Programs that ended long ago leave their counts behind. Whoever lives begins to count again.
  if count > before and not a[3] then
    local old = {}
    for _, field in ipairs(call('HKEYS', account)) do
      if string.sub(field, 1, 2) == 'n:' then old[#old + 1] = field end
    end
    if #old >= 16 then call('HDEL', account, unpack(old)) end
  end
  if count > before then
    call('HSET', account, own, count, 'held', held, ARGV[kinds], helds[1])
    for kind = 2, kind_count do call('HSET', account, ARGV[kinds + width * (kind - 1)], helds[kind]) end
  end
  for kind, rate in pairs(moved or {}) do call('HSET', account, ARGV[kinds + width * (kind - 1) + 3], rate) end
end

local fault = nil
for key = 2, #KEYS, 2 do
  local first = size
  local is_decided, word = pcall(decide, KEYS[key], KEYS[key + 1])
  if not is_decided then fault, word = word, 'alone' end -- what is wrong with one is told to nobody else
  if word then
    for place = size, first + 1, -1 do answers[place] = nil end
    size = first + 1
    answers[size] = word
  end
end
if #placed > 0 then call('ZADD', KEYS[1], unpack(placed)) end
-- In the words of Redis, where they are its own: by their first the caller knows what is wrong.
if fault and #KEYS == 3 then return {err = string.match(fault, '^%u+ .*') or 'ERR ' .. fault} end
return answers
