-- Keeps that a user was kicked now, and forgets those of long ago.
-- KEYS  1 kicks (sorted set: user -> when, Unix milliseconds)  ARGV  1 user  2 how long a kick is kept, ms  3 reason, for hooks
-- Returns when, on this Redis's clock; never before an earlier kick of the user.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], 'GT', now, ARGV[1])
emit('user.kicked', 'user:' .. ARGV[1], { userId = ARGV[1], reason = ARGV[3] })
return tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]))
