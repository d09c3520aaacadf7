-- Behind reported.lua, begins every script that reads what nodes have reported: until the era is settled, each of these nodes must
-- have reported in it. Else the answer could be that nobody is there.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
if not settled then
  for i = 1, #KEYS, 2 do
    if not has_reported(KEYS[i], KEYS[i + 1]) then
      return redis.error_reply('AWAY no report of ' .. KEYS[i] .. ' since the data may have been lost')
    end
  end
end
