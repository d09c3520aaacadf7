-- The kicks from a moment on.
-- KEYS  1 kicks (sorted set: user -> when, Unix milliseconds)
-- ARGV  1 from when on  2 how many at most  3 how young those are that are counted, ms
-- Returns this Redis's clock (Unix milliseconds); the moment from which on kicks are counted, and how many; and users, each
-- with the moment, the earliest first.
local from = now - ARGV[3]
return {
  now,
  from,
  redis.call('ZCOUNT', KEYS[1], from, '+inf'),
  redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2]),
}
