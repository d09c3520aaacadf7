-- A node's heartbeat: keeps its slot, reads its fallback mailbox, and finds nodes whose heartbeats have stopped.
-- KEYS 1 nodes (hash: slot → "<tag> <Unix ms of the last heartbeat> <1 alive, 0 silent> <1 direct, 0 over Redis>", the last one
--     not from earlier versions of spear; faults → how often messages may have been stored and not sent)
-- KEYS 2 mailbox of this node (list of texts)   3 the bytes in it
-- ARGV 1 tag of the node
-- ARGV 2 its slot, or -1 (needs the lowest free one), or leave (gives it up)
-- ARGV 3 a node is silent after this many ms
-- ARGV 4 its slot is free after this many ms
-- ARGV 5 how many faults the node has to report
-- ARGV 6 1: messages reach it through RocketMQ, 0: they are to be sent over Redis
-- Returns slot (-1: another node may have it), faults, { tags of the others }, { texts }, { tags of those to be sent to over Redis }.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local faults = tonumber(ARGV[5])
local slot, taken, tags, overRedis = nil, {}, {}, {}
local nodes = redis.call('HGETALL', KEYS[1])
for i = 1, #nodes, 2 do
  local tag, at, heard = string.match(nodes[i + 1], '(%S+) (%d+) (%d)')
  if tag == ARGV[1] then
    slot = tonumber(nodes[i])
  elseif tag then
    local silence = now - at
    if heard == '1' and silence > tonumber(ARGV[3]) then
      faults = faults + 1
      redis.call('HSET', KEYS[1], nodes[i], tag .. ' ' .. at .. ' 0 0')
    end
    if silence > tonumber(ARGV[4]) then
      faults = faults + 1
      redis.call('HDEL', KEYS[1], nodes[i])
    else
      taken[tonumber(nodes[i])] = true
      tags[#tags + 1] = tag
      if string.match(nodes[i + 1], ' 0$') then overRedis[#overRedis + 1] = tag end
    end
  end
end

faults = redis.call('HINCRBY', KEYS[1], 'faults', faults)
if ARGV[2] == 'leave' then
  if slot then redis.call('HDEL', KEYS[1], slot) end
  redis.call('DEL', KEYS[2], KEYS[3])
  slot = -1
elseif not slot and ARGV[2] ~= '-1' then
  slot = -1
else
  if not slot then
    slot = 0
    while taken[slot] do slot = slot + 1 end
  end
  redis.call('HSET', KEYS[1], slot, ARGV[1] .. ' ' .. now .. ' 1 ' .. ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4] * 10)
local mailbox = redis.call('LRANGE', KEYS[2], 0, -1)
if #mailbox > 0 then redis.call('DEL', KEYS[2], KEYS[3]) end
return { slot, faults, tags, mailbox, overRedis }
