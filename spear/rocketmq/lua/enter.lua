-- Adds a node to the nodes that listen to a target.
-- KEYS 1 nodes of the target (hash: tag -> expiry, Unix ms)
-- ARGV 1 tag
-- ARGV 2 time to live, ms
local time = redis.call('TIME')
local until_ = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', until_))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
