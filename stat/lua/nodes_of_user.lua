-- The nodes that a user is connected to, each as its n.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
-- ARGV  1 user
local found = {}
for i = 1, #KEYS, 2 do
  local place = redis.call('EXISTS', KEYS[i + 1]) == 1 and redis.call('HGET', KEYS[i], 'place')
  if place and redis.call('ZSCORE', 'gru_stat_users:' .. place, ARGV[1]) then
    found[#found + 1] = (i + 1) / 2
  end
end
return found
