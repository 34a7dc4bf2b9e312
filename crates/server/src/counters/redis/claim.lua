-- Puts another claim to an id in the place of the one that was seen there, or none.
-- KEYS: r   ARGV: what was seen, the new one (empty: none), how long it is remembered in ms
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
