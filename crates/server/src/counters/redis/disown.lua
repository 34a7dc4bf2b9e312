-- Takes an id away from a demand that claimed it and holds nothing under it: should it come to be held after all, it finds itself
-- released. Answers 0 where it is held or was.
-- KEYS: h, x   ARGV: id, the hold as a released one, member of x, expires
local placed = redis.pcall('HSETNX', KEYS[1], ARGV[1], ARGV[2])
if type(placed) == 'table' and not string.find(placed.err, 'WRONGTYPE') then return placed end -- it may not be written now
if placed ~= 1 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
return 1
