-- Takes up to ten nodes past their time to live out of the books, then frees a bounded part of the garbage.
-- KEYS  1 nodes (sorted set: node -> when it expires)  2 garbage (sorted set: place -> when it may be swept)
-- ARGV  1 groups to free at most; names, where each must be marked first
-- Returns 1 when there may be more to do, else 0

-- In an order that leaves nothing to nobody where a step is refused, see report.lua.
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)) do
  local key = 'gru_stat_node:' .. node
  local place = redis.call('HGET', key, 'place')
  redis.call('DEL', key)
  if place then redis.call('ZADD', KEYS[2], 0, place) end
  redis.call('ZREM', KEYS[1], node)
  redis.call('DEL', 'user_count:' .. node)
end

if hooks[1] and not book then
  -- Hooks have not been on for long: nothing of them is read any more.
  redis.call('ZADD', KEYS[2], 0, hooks[1])
  redis.call('UNLINK', hooks_key, marks, walks, held, events)
  redis.call('UNLINK', 'gru_stat_unread' .. tag, 'gru_stat_active' .. tag, 'gru_stat_read' .. tag)
end

local place = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1)[1]
if not place then return 0 end
if book then
  local left = tonumber(ARGV[1])
  local function free(group)
    if left <= 0 then return false end
    local names = redis.call('ZRANGE', set_of(place, group), 0, left - 1)
    mark(false, group, names)
    if #names > 0 then redis.call('ZREM', set_of(place, group), unpack(names)) end
    left = left - #names - 1
    return left >= 0
  end
  for _, group in ipairs(redis.call('ZRANGE', 'gru_stat_groups:' .. place, 0, left - 1)) do
    if not free(group) then return 1 end
    redis.call('ZREM', 'gru_stat_groups:' .. place, group)
  end
  if redis.call('EXISTS', 'gru_stat_groups:' .. place) == 1 then return 1 end
  if free('') then redis.call('ZREM', KEYS[2], place) end
  return 1
end
local names = redis.call('ZRANGE', 'gru_stat_groups:' .. place, 0, ARGV[1] - 1)
local groups = {}
for i, name in ipairs(names) do groups[i] = 'gru_stat:' .. place .. '_' .. name end
if #groups > 0 then
  redis.call('UNLINK', unpack(groups))
  redis.call('ZREM', 'gru_stat_groups:' .. place, unpack(names))
end
if #groups < tonumber(ARGV[1]) then
  redis.call('UNLINK', 'gru_stat_users:' .. place)
  redis.call('ZREM', KEYS[2], place)
end
return 1
