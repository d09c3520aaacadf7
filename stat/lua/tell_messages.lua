-- Makes events of messages that were read from the log of a target.
-- KEYS  1 nodes (sorted set: node -> when it expires)
-- ARGV  1 target  2 position behind which was read  3 position up to which was read  4 some between them are lost: 1 or 0
--       5 there are more: 1 or 0  6 least time between two reads, ms, ten times that at most  7 time after which a target that was not noted again is not read
--       any more, ms  8... the messages: data of the events as JSON, for each
-- Returns { "told", events added }; { "moved" } when the target was read from another position meanwhile
local unread, active, read = 'gru_stat_unread' .. tag, 'gru_stat_active' .. tag, 'gru_stat_read' .. tag
local target = ARGV[1]
if not settled or not book or hooks[4] ~= run or (redis.call('HGET', read, target) or ' 0') ~= ARGV[2] then return { 'moved' } end
local colon = string.find(target, ':', 1, true)
local kind, id = string.sub(target, 1, colon - 1), string.sub(target, colon + 1)
local attended = false
for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local place = redis.call('HGET', 'gru_stat_node:' .. node, 'place')
  if place and kind == 'user' and redis.call('ZSCORE', set_of(place, ''), id) then attended = true end
  if place and kind == 'group' and redis.call('EXISTS', set_of(place, id)) == 1 then attended = true end
end
local added = 0
local function add(what, text)
  redis.call('XADD', events, '*', 'k', what, 's', target, 't', now_text, 'd', text)
  added = added + 1
end
if ARGV[4] == '1' then add('hooks.gap', '{"reason":"lost","reset":false}') end
for i = 8, #ARGV do
  add('message.accepted', ARGV[i])
  if not attended then add('message.unattended', ARGV[i]) end
end
redis.call('HSET', read, target, ARGV[3])
local quiet = now - (tonumber(redis.call('ZSCORE', active, target)) or 0)
if ARGV[5] == '0' and #ARGV < 8 and quiet > tonumber(ARGV[7]) then
  redis.call('ZREM', unread, target)
  redis.call('ZREM', active, target)
  redis.call('HDEL', read, target)
else
  -- The next publication after some seconds of quiet is noted, and makes it due at once.
  local wait = math.max(tonumber(ARGV[6]), math.min(quiet / 4, 10 * ARGV[6]))
  redis.call('ZADD', unread, ARGV[5] == '1' and now or now + wait, target)
end
return { 'told', added }
