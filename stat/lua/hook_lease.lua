-- Behind era.lua. Takes the lease of the one stat that makes and sends events, or keeps it.
-- KEYS  1 lease (string: the token of the holder)  2 how many there were (string)
-- ARGV  1 the token that the caller has, or ""  2 how long the lease lasts, ms  3 anything that no other caller has
-- Returns the token, or "" when another one holds the lease
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return '' end
local token = held or redis.call('INCR', KEYS[2]) .. ':' .. ARGV[3]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
