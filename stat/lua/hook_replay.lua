-- Asks the holder of the lease to send again.  KEYS  1 requests (hash)  ARGV  1 endpoint  2 position
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
