-- Frees what has expired in this shard. Every key of the shard lies in one slot, so the names may be put together here.
local function expire(prefix, now)
  local freed = 0
  while true do
    local due = redis.call('ZRANGEBYSCORE', prefix .. 'x', '-inf', now, 'LIMIT', 0, 100)
    for _, member in ipairs(due) do
      local cut = string.find(member, '\0', 1, true)
      local user, id = string.sub(member, 1, cut - 1), string.sub(member, cut + 1)
      local hold = redis.call('HGET', prefix .. 'h:' .. user, id)
      if hold then
        local state, quantity, credits, _, kind = string.match(hold, '^(%a):(%d+):(%d+):(%d+):(.*)$')
        if state == 'h' then
          if credits ~= '0' then redis.call('HINCRBY', prefix .. 'a:' .. user, 'held', '-' .. credits) end
          if quantity ~= '0' then redis.call('HINCRBY', prefix .. 'a:' .. user, 'h:' .. kind, '-' .. quantity) end
          freed = freed + 1
        end
        redis.call('HDEL', prefix .. 'h:' .. user, id)
      end
      redis.call('ZREM', prefix .. 'x', member)
    end
    if #due < 100 then return freed end
  end
end
