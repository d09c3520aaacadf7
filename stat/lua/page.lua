-- The first names of a listing on each node, in the order of their bytes.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
-- ARGV  1 listing: "users", "groups" or "group"  2 the group, for "group"  3 lowest name as ZRANGEBYLEX takes it
--       4 highest name likewise  5 names at most
-- Returns for each node that has some: its n, and its names; for "groups" each followed by its number of users
local found = {}
for i = 1, #KEYS, 2 do
  local place = redis.call('EXISTS', KEYS[i + 1]) == 1 and redis.call('HGET', KEYS[i], 'place')
  if place then
    local key = ARGV[1] == 'group' and 'gru_stat:' .. place .. '_' .. ARGV[2]
      or 'gru_stat_' .. ARGV[1] .. ':' .. place
    local names = redis.call('ZRANGEBYLEX', key, ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
    if ARGV[1] == 'groups' then
      local counted = {}
      for j, name in ipairs(names) do
        counted[2 * j - 1] = name
        counted[2 * j] = redis.call('ZCARD', 'gru_stat:' .. place .. '_' .. name)
      end
      names = counted
    end
    if #names > 0 then found[#found + 1] = { (i + 1) / 2, names } end
  end
end
return found
