-- Frees what has expired of these ends, up to so many, which keeps the server from others for some milliseconds. Answers how much
-- was freed, and whether more may be left. Every key of a shard lies in one slot, so the names may be put together here.
local function expire(ends, now)
  local freed = 0
  for _ = 1, 25 do
    local due = redis.pcall('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)
    if due.err then redis.call('DEL', ends) end -- of another kind: nobody could decide
    if due.err or #due == 0 then return freed, false end
    local ids_of, kept = {}, {}
    for _, member in ipairs(due) do
      local owner, id = string.match(member, '^(%d+:.-)%z(.*)$')
      if owner then
        ids_of[owner] = ids_of[owner] or {}
        table.insert(ids_of[owner], id)
      end
    end
    for owner, ids in pairs(ids_of) do
      local shard, user = string.match(owner, '^(%d+):(.*)$')
      local account, holds = 'bh:{' .. shard .. '}:a:' .. user, 'bh:{' .. shard .. '}:h:' .. user
      local is_spoilt = false
      local function free(field, amount)
        if amount == '0' then return end
        local sum = redis.pcall('HINCRBY', account, field, '-' .. amount)
        if type(sum) == 'table' and not string.find(sum.err, 'WRONGTYPE') and not string.find(sum.err, 'hash value') then
          error(sum) -- it may not be written now: what is over stays until it may
        end
        is_spoilt = is_spoilt or type(sum) == 'table'
      end
      local known, over = redis.pcall('HMGET', holds, unpack(ids)), {}
      for place, hold in ipairs(known) do
        is_spoilt = is_spoilt or not hold -- lost, and its sums would be held for ever
        -- What was resolved is only forgotten. Each sum by itself: together they might be more than a number of Lua holds.
        local quantity, credits, kind = string.match(hold or '', '^h: *(%d+):(%d+):%d+:(.*)$')
        local claims = kind and redis.pcall('GET', 'bh:{' .. shard .. '}:k:' .. ids[place])
        if type(claims) == 'string' and claims ~= 'r' then
          kept[#kept + 1] = owner .. '\0' .. ids[place] -- its commit is on the way to the log: it is looked at again in a second
          kind = nil
        else
          over[#over + 1] = ids[place]
        end
        if kind then
          free('held', credits)
          free('h:' .. kind, quantity)
          freed = freed + 1
        end
      end
      if known.err or is_spoilt then
        redis.call('DEL', account, holds) -- the account begins anew with whoever asks next
      elseif #over > 0 then
        redis.call('HDEL', holds, unpack(over))
      end
    end
    redis.call('ZREM', ends, unpack(due))
    for _, member in ipairs(kept) do redis.call('ZADD', ends, now + 1000, member) end
  end
  return freed, true
end
