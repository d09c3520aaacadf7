-- Applies one piece of a report to its node. The pieces of one report come one after the other, or, between the first and the
-- last, in any order; only the last moves the version on, so that a report that stops half-way is applied again as a
-- whole, or replaced by a full one.
-- A full report is written to a new place, which readers are sent to when the last piece has come.
--
-- A server may refuse any step of a script while the slot of the keys moves to another one. The steps are in an order in which
-- nothing is shown that is not whole, and nothing is left that nobody sweeps.
--
-- KEYS  1 node (hash: session, version, place, connections, load, holder, era)   2 nodes (sorted set: node -> when it expires)
--       3 user count of the node (string, expires with it)   4 garbage (sorted set: place -> when it may be swept)
-- ARGV  1 node  2 session  3 version  4 connections  5 time to live, ms  6 new place, "" when the report is not full
--       7 first piece: 1 or 0  8 last piece: 1 or 0  9 time that may pass between the pieces of a full report, ms
--       10 time that readers may still need what it replaces, ms  11 load, JSON
--       12 the session has claimed the node: 1 or 0
--       13... changes: "join" or "leave", group ("" for the users of the node), number of users, the users
--
-- Returns "done" (applied, or was so before)  "more" (send the next piece)  "refused" (another session holds the node, or none)
--         "resync" (does not follow on what is stored, or the place was swept: begin again)
local node, session, version, place = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[6]
local first, last = ARGV[7] == '1', ARGV[8] == '1'

local function keep_alive(at)
  redis.call('ZADD', KEYS[2], now + ARGV[5], node)
  redis.call('SET', KEYS[3], redis.call('ZCARD', 'gru_stat_users:' .. at), 'PX', ARGV[5])
end

local head = redis.call('HMGET', KEYS[1], 'session', 'version', 'place', 'holder')
if ARGV[12] == '1' and head[4] ~= session then return 'refused' end
local known = head[1] == session and tonumber(head[2])
local full = place ~= ''
if known and known >= version then
  if full then redis.call('ZADD', KEYS[4], 'XX', 0, place) end
  if known == version then
    redis.call('HSET', KEYS[1], 'era', era_id)
    keep_alive(head[3])
  end
  return 'done'
end
if full then
  local until_ = tonumber(redis.call('ZSCORE', KEYS[4], place) or (first and now + 1))
  -- What is overdue may have been swept in part.
  if not until_ or until_ <= now then return 'resync' end
  redis.call('ZADD', KEYS[4], now + ARGV[9], place)
else
  if not known or known ~= version - 1 then return 'resync' end
  place = head[3]
end

local groups = 'gru_stat_groups:' .. place
local i = 13
while i <= #ARGV do
  local joins, group, count = ARGV[i] == 'join', ARGV[i + 1], tonumber(ARGV[i + 2])
  local key = set_of(place, group)
  if book and not full then mark(joins, group, { unpack(ARGV, i + 3, i + 2 + count) }) end
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
if not last then
  if known then keep_alive(head[3]) end
  return 'more'
end

-- What a new place has is marked step by step, see tell.lua; what the old one had, when it is swept.
if full and book then redis.call('HSET', walks, place, '["",""]') end
redis.call('HSET', KEYS[1],
  'session', session, 'version', version, 'place', place, 'connections', ARGV[4],
  'load', ARGV[11], 'era', era_id)
if full then
  if head[3] then redis.call('ZADD', KEYS[4], now + ARGV[10], head[3]) end
  redis.call('ZREM', KEYS[4], place)
end
keep_alive(place)
return 'done'
