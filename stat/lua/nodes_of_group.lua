-- The nodes that a group has users on, each as its n and how many.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
-- ARGV  1 group
local found = {}
for i = 1, #KEYS, 2 do
  local place = redis.call('EXISTS', KEYS[i + 1]) == 1 and redis.call('HGET', KEYS[i], 'place')
  local users = place and redis.call('ZCARD', 'gru_stat:' .. place .. '_' .. ARGV[1]) or 0
  if users > 0 then found[#found + 1] = { (i + 1) / 2, users } end
end
return found
