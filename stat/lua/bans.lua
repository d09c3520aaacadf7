-- All bans that hold; forgets those that are over.
-- KEYS  1 bans (hash: whom -> JSON with until)  ARGV  1 now, Unix milliseconds
local holding = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if cjson.decode(all[i + 1])['until'] > tonumber(ARGV[1]) then
    holding[#holding + 1] = all[i + 1]
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return holding
