-- Whose a reservation is that ends at a known instant, and what is held for it; nothing where it is not held any more.
-- KEYS: x   ARGV: id, the instant in ms
local ending = redis.pcall('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])
for _, member in ipairs(ending) do
  local shard, user, id = string.match(member, '^(%d+):(.-)%z(.*)$')
  if id == ARGV[1] then
    local hold = redis.pcall('HGET', 'bh:{' .. shard .. '}:h:' .. user, id)
    if type(hold) == 'string' then return {user, hold} end
  end
end
