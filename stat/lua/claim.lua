-- Gives a node's place to a session: reports of others that claim are refused from then on.
-- KEYS  1 node (hash)  2 nodes (sorted set: node -> when it expires)
-- ARGV  1 node  2 session  3 take it over from another session: 1 or 0  4 time after which a claim without a report is swept, ms
-- Returns 1, or 0 when another session has it
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[2] and ARGV[3] == '0' then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[2])
redis.call('ZADD', KEYS[2], 'GT', now + ARGV[4], ARGV[1])
return 1
