-- Keeps an entry of the audit log, and forgets those that are too old or too many.
-- KEYS  1 audit (sorted set: entry -> its moment)  2 what is noted once (sorted set: name -> its moment)
-- ARGV  1 the entry, JSON  2 how long entries are kept, ms  3 how many are kept
--       4 "" or a name: of all entries with this name only the first one is kept
local old = '(' .. string.format('%.0f', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', old)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', old)
if ARGV[4] ~= '' and redis.call('ZADD', KEYS[2], 'NX', now, ARGV[4]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], now, string.format('{"at":%.0f,', now) .. string.sub(ARGV[1], 2))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1)
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[3] - 1)
return 1
