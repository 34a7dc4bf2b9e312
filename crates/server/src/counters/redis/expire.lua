-- Frees what has expired in the shard of these ends. Every key of the shard lies in one slot, so the names may be put together here.
local function expire(ends, now)
  if redis.pcall('ZCOUNT', ends, '-inf', now) == 0 then return 0 end
  local prefix, freed = string.sub(ends, 1, -2), 0
  while true do
    local due = redis.pcall('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)
    if due.err then redis.call('DEL', ends) end -- of another kind: nobody of the shard could decide
    if due.err or #due == 0 then return freed end
    local ids_of = {}
    for _, member in ipairs(due) do
      local cut = string.find(member, '\0', 1, true)
      local user = string.sub(member, 1, cut - 1)
      ids_of[user] = ids_of[user] or {}
      table.insert(ids_of[user], string.sub(member, cut + 1))
    end
    for user, ids in pairs(ids_of) do
      local account, holds = prefix .. 'a:' .. user, prefix .. 'h:' .. user
      local known = redis.pcall('HMGET', holds, unpack(ids))
      if known.err then -- of another kind: the account begins anew with whoever asks next
        redis.call('DEL', account, holds)
        known = {}
      end
      for _, hold in ipairs(known) do
        -- What was resolved is only forgotten. Each sum by itself: together they might be more than a number of Lua holds.
        local quantity, credits, kind = string.match(hold or '', '^h:(%d+):(%d+):%d+:(.*)$')
        if kind then
          if credits ~= '0' then redis.call('HINCRBY', account, 'held', '-' .. credits) end
          if quantity ~= '0' then redis.call('HINCRBY', account, 'h:' .. kind, '-' .. quantity) end
          freed = freed + 1
        end
      end
      redis.call('HDEL', holds, unpack(ids))
    end
    redis.call('ZREM', ends, unpack(due))
  end
end
