-- Takes up to ten nodes past their time to live out of the books, then frees a bounded part of the garbage.
-- KEYS  1 nodes (sorted set: node -> when it expires)  2 garbage (sorted set: place -> when it may be swept)
-- ARGV  1 groups to free at most
-- Returns 1 when there may be more to do, else 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)) do
  local key = 'gru_stat_node:' .. node
  local place = redis.call('HGET', key, 'place')
  if place then redis.call('ZADD', KEYS[2], 0, place) end
  redis.call('DEL', key, 'user_count:' .. node)
  redis.call('ZREM', KEYS[1], node)
end

local place = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1)[1]
if not place then return 0 end
local popped = redis.call('ZPOPMIN', 'gru_stat_groups:' .. place, ARGV[1])
local groups = {}
for i = 1, #popped, 2 do groups[#groups + 1] = 'gru_stat:' .. place .. '_' .. popped[i] end
if #groups > 0 then redis.call('UNLINK', unpack(groups)) end
if #groups < tonumber(ARGV[1]) then
  redis.call('UNLINK', 'gru_stat_users:' .. place)
  redis.call('ZREM', KEYS[2], place)
end
return 1
