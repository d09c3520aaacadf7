-- The users of a group over nodes.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
-- ARGV  1 group  2 users that one call may give at most
-- Returns { 1, the users, each once } or, when there are too many, { 0, the keys of the sets to read one by one,
-- the id of the era }
local sets, size = {}, 0
for i = 1, #KEYS, 2 do
  local place = redis.call('EXISTS', KEYS[i + 1]) == 1 and redis.call('HGET', KEYS[i], 'place')
  if place then
    local key = 'gru_stat:' .. place .. '_' .. ARGV[1]
    local users = redis.call('ZCARD', key)
    if users > 0 then sets[#sets + 1] = key end
    size = size + users
  end
end
if size == 0 then return { 1, {} } end
if size > tonumber(ARGV[2]) then return { 0, sets, era_id } end
return { 1, redis.call('ZUNION', #sets, unpack(sets)) }
