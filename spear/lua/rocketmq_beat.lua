-- A node's sign of life: keeps its lane, fetches its mail, and finds out who has fallen silent.
-- KEYS 1 nodes (hash: lane → "<tag> <Unix ms of the last sign> <1 heard of, 0 silent>"; faults → how often messages
--        may have been kept and not sent out)
--      2 mail of this node (list of texts)
-- ARGV 1 tag of the node     2 its lane, or -1: wants the lowest free one, or leave: gives it up
--      3 a node is silent after ms     4 and its lane is free after ms     5 how many faults the node has to report
-- Returns lane (-1: it has been taken away), faults, { tags of the others }, { texts }.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local faults = tonumber(ARGV[5])
local lane, taken, tags = nil, {}, {}
local nodes = redis.call('HGETALL', KEYS[1])
for i = 1, #nodes, 2 do
  local tag, at, heard = string.match(nodes[i + 1], '(%S+) (%d+) (%d)')
  if tag == ARGV[1] then
    lane = tonumber(nodes[i])
  elseif tag then
    local silence = now - at
    if heard == '1' and silence > tonumber(ARGV[3]) then
      faults = faults + 1
      redis.call('HSET', KEYS[1], nodes[i], tag .. ' ' .. at .. ' 0')
    end
    if silence > tonumber(ARGV[4]) then
      faults = faults + 1
      redis.call('HDEL', KEYS[1], nodes[i])
    else
      taken[tonumber(nodes[i])] = true
      tags[#tags + 1] = tag
    end
  end
end

faults = redis.call('HINCRBY', KEYS[1], 'faults', faults)
if ARGV[2] == 'leave' then
  if lane then redis.call('HDEL', KEYS[1], lane) end
  redis.call('DEL', KEYS[2])
  lane = -1
elseif not lane and ARGV[2] ~= '-1' then
  lane = -1
else
  if not lane then
    lane = 0
    while taken[lane] do lane = lane + 1 end
  end
  redis.call('HSET', KEYS[1], lane, ARGV[1] .. ' ' .. now .. ' 1')
end
redis.call('PEXPIRE', KEYS[1], ARGV[4] * 10)
local mail = redis.call('LRANGE', KEYS[2], 0, -1)
if #mail > 0 then redis.call('DEL', KEYS[2]) end
return { lane, faults, tags, mail }
