-- The newest entries of the audit log before a moment, the newest first.
-- KEYS  1 audit (sorted set: entry -> its moment)  ARGV  1 the moment; "" for all  2 how many at most
local before = ARGV[1] == '' and '+inf' or '(' .. ARGV[1]
return redis.call('ZREVRANGEBYSCORE', KEYS[1], before, '-inf', 'LIMIT', 0, ARGV[2])
