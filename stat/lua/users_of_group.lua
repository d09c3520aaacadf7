-- The users of a group over nodes, each once.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
-- ARGV  1 group
local sets = {}
for i = 1, #KEYS, 2 do
  local place = redis.call('EXISTS', KEYS[i + 1]) == 1 and redis.call('HGET', KEYS[i], 'place')
  if place then sets[#sets + 1] = 'gru_stat:' .. place .. '_' .. ARGV[1] end
end
if #sets == 0 then return {} end
return redis.call('SUNION', unpack(sets))
