-- Takes in kicks that nodes remember: of each user the latest stands.
-- KEYS  1 kicks (sorted set: user -> when, Unix milliseconds)  ARGV  when and user, for each
redis.call('ZADD', KEYS[1], 'GT', unpack(ARGV))
return 1
