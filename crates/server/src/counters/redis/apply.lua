-- Publishes accounts as they are, and moves the shard's position with them by compare-and-set.
-- KEYS: wm, x
-- ARGV: prefix, expected position, new position, log, the life of accounts that begin here, then lists, each with its length before
--       it: fields that an account does not have where they are 0, accounts (user, entry, until, its fields and values with their
--       number before them), holds (user, id, hold, expires), commits (user, id), sights (user, the field in which a program counts
--       what it does, its count). An empty expected position neither looks nor moves. Answers the life of the last account;
--       `later` and its name where something there is of a log with a later one.
local prefix, expected, new, log, life = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if expected ~= '' then
  local there = redis.call('GET', KEYS[1]) or 'none'
  local theirs = string.match(there, '^(.*):%d+$')
  if theirs and theirs > log then return {'later', theirs} end
  if there ~= expected then return {'behind', there} end
end
local shard = string.match(prefix, '%d+')
local zeros = 6 + tonumber(ARGV[6])
local at, last = zeros, ''
local function next() at = at + 1; return ARGV[at] end

for _ = 1, tonumber(next()) do
  local user, entry, until_ms = next(), next(), next()
  local first = at + 2
  at = first - 1 + tonumber(next())
  local key = prefix .. 'a:' .. user
  local there = redis.pcall('HMGET', key, 'log', 'entry', 'life')
  -- Names of logs grow with time: whoever works by an earlier one has not heard yet that it has another.
  if not there.err and there[1] and there[1] > log then return {'later', there[1]} end
  if there.err or there[1] ~= log then
    redis.call('DEL', key, prefix .. 'h:' .. user) -- of another log, of another kind, or what an eviction left
    redis.call('HSET', key, 'log', log, 'life', life, 'entry', entry, 'until', until_ms, unpack(ARGV, first, at))
    last = life
  else
    -- Somebody further along may have published it: what is newer stays, or a counted commit would be free again.
    if not there[2] or tonumber(there[2]) <= tonumber(entry) then
      if zeros > 6 then redis.call('HDEL', key, unpack(ARGV, 7, zeros)) end
      redis.call('HSET', key, 'entry', entry, 'until', until_ms, unpack(ARGV, first, at))
    end
    last = there[3]
  end
end

for _ = 1, tonumber(next()) do
  local user, id, hold, expires = next(), next(), next(), next()
  if redis.call('HSETNX', prefix .. 'h:' .. user, id, hold) == 1 then
    local _, quantity, credits, _, kind = string.match(hold, '^(%a): *(%d+):(%d+):(%d+):(.*)$')
    redis.call('ZADD', KEYS[2], expires, shard .. ':' .. user .. '\0' .. id)
    redis.call('HINCRBY', prefix .. 'a:' .. user, 'held', credits)
    redis.call('HINCRBY', prefix .. 'a:' .. user, 'h:' .. kind, quantity)
  end
end

-- After the holds: one of them may have been committed since it was written down.
for _ = 1, tonumber(next()) do
  local user, id = next(), next()
  local hold = redis.pcall('HGET', prefix .. 'h:' .. user, id)
  if type(hold) == 'table' then -- of another kind: the account begins anew with whoever asks next
    redis.call('DEL', prefix .. 'a:' .. user, prefix .. 'h:' .. user)
    hold = false
  end
  local state, quantity, credits, expires, kind
  if hold then state, quantity, credits, expires, kind = string.match(hold, '^(%a): *(%d+):(%d+):(%d+):(.*)$') end
  if state == 'h' then
    redis.call('HSET', prefix .. 'h:' .. user, id, 'c:' .. quantity .. ':' .. credits .. ':' .. expires .. ':' .. kind)
    if credits ~= '0' then redis.call('HINCRBY', prefix .. 'a:' .. user, 'held', '-' .. credits) end
    if quantity ~= '0' then redis.call('HINCRBY', prefix .. 'a:' .. user, 'h:' .. kind, '-' .. quantity) end
  end
end

for _ = 1, tonumber(next()) do
  local user, field, seen = next(), next(), next()
  local there = redis.call('HGET', prefix .. 'a:' .. user, field) or '0'
  if tonumber(there) < tonumber(seen) then redis.call('HSET', prefix .. 'a:' .. user, field, seen) end
end

if expected ~= '' and new ~= 'none' then redis.call('SET', KEYS[1], new) end
return {'applied', new, last}
