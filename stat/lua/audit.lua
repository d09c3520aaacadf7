-- Keeps an entry of the audit log, and forgets those that are too old or too many.
-- KEYS  1 audit (sorted set: entry -> its moment)
-- ARGV  1 the entry, JSON  2 how long entries are kept, ms  3 how many are kept
redis.call('ZADD', KEYS[1], now, string.format('{"at":%.0f,', now) .. string.sub(ARGV[1], 2))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1)
return 1
