-- For each node that has reported and lives: its n, connections, users, groups, load (JSON).
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
local found = {}
for i = 1, #KEYS, 2 do
  local users = redis.call('GET', KEYS[i + 1])
  local head = redis.call('HMGET', KEYS[i], 'connections', 'place', 'load')
  if users and head[2] then
    found[#found + 1] = {
      (i + 1) / 2,
      tonumber(head[1]),
      tonumber(users),
      redis.call('ZCARD', 'gru_stat_groups:' .. head[2]),
      head[3],
    }
  end
end
return found
