-- Keeps one sample for each moment, whichever stat comes first.
-- KEYS  1 samples (sorted set: sample -> its moment)  ARGV  1 moment  2 sample  3 oldest moment to keep
if redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
return 1
