-- Behind fence.lua. Notes how far each endpoint is, and hands over what people ask of them.
-- KEYS  1 states (hash: endpoint -> JSON)  2 requests (hash: endpoint -> position to send again from)
-- ARGV  endpoint, state for each
-- Returns { "kept", requests: endpoint, position for each }
if #ARGV > 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
local requests = redis.call('HGETALL', KEYS[2])
redis.call('DEL', KEYS[2])
return { 'kept', requests }
