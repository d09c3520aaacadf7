-- A node tells that it is there, and learns the identity of the cluster and who else is there.
-- KEYS 1 identity of the cluster, made once (text)   2 its nodes (hash: session -> "<since> <last here> <name>", Unix ms)
-- ARGV 1 the identity where there is none   2 session of the node   3 its name
--      4 a node is forgotten after this many ms   5 leave, or nothing
-- Returns identity, since, { session, since, ms since it was last here, name, … } of the others.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = redis.call('GET', KEYS[1])
if not id then
  id = ARGV[1]
  redis.call('SET', KEYS[1], id)
end
if ARGV[5] == 'leave' then
  redis.call('HDEL', KEYS[2], ARGV[2])
  return { id, 0, {} }
end
local since, others = now, {}
local nodes = redis.call('HGETALL', KEYS[2])
for i = 1, #nodes, 2 do
  local from, at, name = string.match(nodes[i + 1], '^(%d+) (%d+) (.*)$')
  if nodes[i] == ARGV[2] then since = tonumber(from)
  elseif not at or now - at > tonumber(ARGV[4]) then redis.call('HDEL', KEYS[2], nodes[i])
  else
    for _, value in ipairs({ nodes[i], from, string.format('%d', now - at), name }) do others[#others + 1] = value end
  end
end
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f %.0f ', since, now) .. ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return { id, since, others }
