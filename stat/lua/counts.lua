-- For each node that has reported and lives: its n, connections, users, groups.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
local found = {}
for i = 1, #KEYS, 2 do
  local users = redis.call('GET', KEYS[i + 1])
  local head = redis.call('HMGET', KEYS[i], 'connections', 'place')
  if users and head[2] then
    found[#found + 1] = {
      (i + 1) / 2,
      tonumber(head[1]),
      tonumber(users),
      redis.call('SCARD', 'gru_stat_groups:' .. head[2]),
    }
  end
end
return found
