-- KEYS: x   ARGV: prefix, now in ms
return expire(ARGV[1], ARGV[2])
