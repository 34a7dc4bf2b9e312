-- Writes an account as it must be, whatever is there, unless it has moved since it was looked at. Its sums of what is held become
-- those of its holds. It begins a new life: every process puts back what it holds, and resolves what it knows to be resolved.
-- KEYS: a, h, x
-- ARGV: shard:user, the entry that was seen, log, life, entry, until, then lists, each with its length before it: fields and values,
--       ids that nobody knows, holds (id, hold, expires).
local owner = ARGV[1]
for i, kind in ipairs({'hash', 'hash', 'zset'}) do
  if redis.call('TYPE', KEYS[i]).ok ~= kind then redis.call('DEL', KEYS[i]) end
end
local there = redis.call('HMGET', KEYS[1], 'entry', 'log')
if (there[1] or '') ~= ARGV[2] then return 'moved' end
local before = there[2] == ARGV[3] and redis.call('HGETALL', KEYS[1]) or {}
redis.call('DEL', KEYS[1])
if #before == 0 then redis.call('DEL', KEYS[2]) end -- of another log
for i = 1, #before, 2 do
  -- How many holds were given out and how fast stands nowhere else.
  local is_own = string.sub(before[i], 1, 2) == 'n:' or string.sub(before[i], 1, 2) == 'r:'
  if is_own and tonumber(before[i + 1]) then redis.call('HSET', KEYS[1], before[i], before[i + 1]) end
end
local at = 6
local function next() at = at + 1; return ARGV[at] end
redis.call('HSET', KEYS[1], 'log', ARGV[3], 'life', ARGV[4], 'entry', ARGV[5], 'until', ARGV[6])
for _ = 1, tonumber(next()) / 2 do redis.call('HSET', KEYS[1], next(), next()) end
for _ = 1, tonumber(next()) do redis.call('HDEL', KEYS[2], next()) end
for _ = 1, tonumber(next()) do
  local id, hold, expires = next(), next(), next()
  local known = redis.call('HGET', KEYS[2], id)
  if not known or string.sub(known, 1, 2) == 'h:' then redis.call('HSET', KEYS[2], id, hold) end
end
local held, kinds = 0, {}
local holds = redis.call('HGETALL', KEYS[2])
for i = 1, #holds, 2 do
  local state, quantity, credits, expires, kind = string.match(holds[i + 1], '^([hrc]): *(%d+):(%d+):(%d+):(.*)$')
  if not state then
    redis.call('HDEL', KEYS[2], holds[i])
  else
    redis.call('ZADD', KEYS[3], expires, owner .. '\0' .. holds[i])
    if state == 'h' then held, kinds[kind] = held + tonumber(credits), (kinds[kind] or 0) + tonumber(quantity) end
  end
end
redis.call('HSET', KEYS[1], 'held', string.format('%.0f', held))
for kind, quantity in pairs(kinds) do redis.call('HSET', KEYS[1], 'h:' .. kind, string.format('%.0f', quantity)) end
return 'mended'
