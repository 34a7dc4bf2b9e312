-- Events for wrk: ids that grow like ULIDs, USERS users in turn, one body of BATCH events for each request.
local alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
local batch, users = tonumber(os.getenv("BATCH")), tonumber(os.getenv("USERS"))
local seconds = os.time()
local now = os.date("!%Y-%m-%dT%H:%M:%SZ", seconds)
local counter = 0

local function crockford(number, length)
  local digits = {}
  for place = length, 1, -1 do
    local digit = number % 32
    digits[place] = alphabet:sub(digit + 1, digit + 1)
    number = math.floor(number / 32)
  end
  return table.concat(digits)
end

-- Ten characters of time, six of the run, ten of a counter.
local prefix = crockford(seconds * 1000, 10) .. crockford(tonumber(os.getenv("RUN")), 6)

local function event()
  counter = counter + 1
  return '{"transaction_id":"' .. prefix .. crockford(counter, 10) .. '","user_id":"usr_bench_' .. counter % users
    .. '","type":"inference","quantity":3,"timestamp":"' .. now .. '","properties":{"model":"m-1"}}'
end

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

-- ASK=check, ASK=reserve or ASK=held: a question instead of an event.
local ask = os.getenv("ASK")
local function question()
  counter = counter + 1
  return '{"user_id":"usr_bench_' .. counter % users .. '","type":"inference","quantity":1'
    .. (ask == "reserve" and ',"ttl_seconds":1}' or ask == "held" and ',"ttl_seconds":300}' or "}")
end

request = function()
  if ask then
    return wrk.format(nil, nil, nil, question())
  end
  if batch == 1 then
    return wrk.format(nil, nil, nil, event())
  end
  local events = {}
  for place = 1, batch do
    events[place] = event()
  end
  return wrk.format(nil, nil, nil, "[" .. table.concat(events, ",") .. "]")
end
