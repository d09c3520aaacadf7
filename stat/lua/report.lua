-- Applies one piece of a report to its node. The pieces of one report come one after the other; only the last moves
-- the version on, so that a report that stops half-way is applied again as a whole, or replaced by a full one.
-- A full report is written to a new place, which readers are sent to when the last piece has come.
--
-- KEYS  1 node (hash: session, version, place, connections, load)   2 nodes (sorted set: node -> when it expires)
--       3 user count of the node (string, expires with it)   4 garbage (sorted set: place -> when it may be swept)
-- ARGV  1 node  2 session  3 version  4 connections  5 time to live, ms  6 new place, "" when the report is not full
--       7 first piece: 1 or 0  8 last piece: 1 or 0  9 time that a full report may take to come, ms
--       10 time that readers may still need what it replaces, ms  11 load, JSON
--       12... changes: "join" or "leave", group ("" for the users of the node), number of users, the users
--
-- Returns "done" (applied, or was so before)  "more" (send the next piece)
--         "resync" (does not follow on what is stored)  "lost" (the place was swept: begin again)
local node, session, version, place = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[6]
local first, last = ARGV[7] == '1', ARGV[8] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function keep_alive(at)
  redis.call('ZADD', KEYS[2], now + ARGV[5], node)
  redis.call('SET', KEYS[3], redis.call('ZCARD', 'gru_stat_users:' .. at), 'PX', ARGV[5])
end

local head = redis.call('HMGET', KEYS[1], 'session', 'version', 'place')
local known = head[1] == session and tonumber(head[2])
local full = place ~= ''
if known and known >= version then
  if full then redis.call('ZADD', KEYS[4], 'XX', 0, place) end
  if known == version then keep_alive(head[3]) end
  return 'done'
end
if full then
  if first then
    redis.call('ZADD', KEYS[4], now + ARGV[9], place)
  elseif not redis.call('ZSCORE', KEYS[4], place) then
    return 'lost'
  end
else
  if not known or known ~= version - 1 then return 'resync' end
  place = head[3]
end

local groups = 'gru_stat_groups:' .. place
local i = 12
while i <= #ARGV do
  local joins, group, count = ARGV[i] == 'join', ARGV[i + 1], tonumber(ARGV[i + 2])
  local key = group == '' and 'gru_stat_users:' .. place or 'gru_stat:' .. place .. '_' .. group
  if joins then
    local scored = {}
    for j = 1, count do
      scored[2 * j - 1] = 0
      scored[2 * j] = ARGV[i + 2 + j]
    end
    redis.call('ZADD', key, unpack(scored))
  else
    redis.call('ZREM', key, unpack(ARGV, i + 3, i + 2 + count))
  end
  if group ~= '' then
    if joins then
      redis.call('ZADD', groups, 0, group)
    elseif redis.call('EXISTS', key) == 0 then
      redis.call('ZREM', groups, group)
    end
  end
  i = i + 3 + count
end
if not last then return 'more' end

if full then
  redis.call('ZREM', KEYS[4], place)
  if head[3] then redis.call('ZADD', KEYS[4], now + ARGV[10], head[3]) end
end
redis.call('HSET', KEYS[1],
  'session', session, 'version', version, 'place', place, 'connections', ARGV[4],
  'load', ARGV[11])
keep_alive(place)
return 'done'
