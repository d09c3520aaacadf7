-- Keeps one sample for each step of this Redis's clock, whichever stat comes first.
-- KEYS  1 samples (sorted set: sample -> its moment)
-- ARGV  1 the sample, JSON  2 step, ms  3 how long samples are kept, ms
-- Returns the milliseconds to the next step
local at = now - now % ARGV[2]
-- A stat that goes by its own clock may have kept some of a time that has not come.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', at), '+inf')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', at - ARGV[3]))
if redis.call('ZCOUNT', KEYS[1], at, at) == 0 then
  redis.call('ZADD', KEYS[1], at, string.format('{"at":%.0f,', at) .. string.sub(ARGV[1], 2))
end
return at + ARGV[2] - now
