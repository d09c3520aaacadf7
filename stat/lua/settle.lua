-- Settles the era when all live nodes have reported in it, or had time enough to do so.
-- KEYS  for each live node: 2n-1 node, 2n user count
-- ARGV  1 how long a node is waited for, ms
-- Returns the n of the nodes that are waited for; none when the era is settled
if settled then return {} end
local waiting = {}
for i = 1, #KEYS, 2 do
  if not has_reported(KEYS[i], KEYS[i + 1]) then waiting[#waiting + 1] = (i + 1) / 2 end
end
if #waiting > 0 and now - since < tonumber(ARGV[1]) then return waiting end
redis.call('HSET', era, 'settled', 1)
return {}
