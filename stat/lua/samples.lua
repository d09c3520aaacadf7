-- The samples of the last time.
-- KEYS  1 samples (sorted set: sample -> its moment)  ARGV  1 how long ago the oldest may be, ms
-- Returns this Redis's clock, Unix milliseconds, and the samples, ascending
return { now, redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], now) }
