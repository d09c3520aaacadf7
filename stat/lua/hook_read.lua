-- Events behind a position.
-- KEYS  1 events (stream)  2 hooks (hash, see hooks.lua; removed: the last event that hook_trim.lua removed)
-- ARGV  1 the position  2 how many at most
-- Returns { entries, the last event that was ever removed or "0-0" }
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return { entries, redis.call('HGET', KEYS[2], 'removed') or '0-0' }
