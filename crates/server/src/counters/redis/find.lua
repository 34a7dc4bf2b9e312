-- Whose a reservation is that ends at a known instant, and what is held for it; nothing where it is not held any more.
-- KEYS: x   ARGV: id, the instant in ms
local ending = redis.pcall('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])
for _, member in ipairs(ending) do
  local cut = string.find(member, '\0', 1, true)
  if cut and string.sub(member, cut + 1) == ARGV[1] then
    local user = string.sub(member, 1, cut - 1)
    local hold = redis.pcall('HGET', string.sub(KEYS[1], 1, -2) .. 'h:' .. user, ARGV[1])
    if type(hold) == 'string' then return {user, hold} end
  end
end
