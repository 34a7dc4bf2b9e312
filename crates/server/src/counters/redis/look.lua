-- Everything that lies here of an account, at one instant; nothing where a key is of a kind that none of ours is.
-- KEYS: a, h, x   ARGV: shard:user
local account, holds, due = redis.pcall('HGETALL', KEYS[1]), redis.pcall('HGETALL', KEYS[2]), {}
if account.err or holds.err then return {'spoilt'} end
for i = 1, #holds, 2 do
  local score = redis.pcall('ZSCORE', KEYS[3], ARGV[1] .. '\0' .. holds[i])
  if type(score) == 'table' then return {'spoilt'} end
  due[#due + 1] = score or ''
end
return {'there', account, holds, due}
