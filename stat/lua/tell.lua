-- Compares a bounded number of what is marked with the truth, adds events for what differs, and notes them in the book.
-- The truth is what the nodes in the books have, also those past their time to live: only what passes through the books is marked.
-- KEYS  1 nodes (sorted set: node -> when it expires)
-- ARGV  1 grace, ms  2 time after which hooks are off without a further call, ms  3 names to look at, at most
--       4 who calls: another value for each life of a program  5 a hook wants messages: 1 or 0
-- Returns { "waiting" } while data may be missing; { "doubt", who called last or "" when there is no book, last position of the
-- stream } when resume.lua is needed; or { "told", events added, 1 when there is more to do now, ms until the next mark is due or
-- -1, the last position of the stream before this call, when somebody else called before, else "" }
local function last_position()
  if redis.call('EXISTS', events) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', events)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
if not settled then return { 'waiting' } end
local caller = redis.call('HGET', hooks_key, 'caller')
if not book or hooks[4] ~= run then return { 'doubt', book and caller or '', last_position() } end
local before = caller ~= ARGV[4] and last_position() or ''
redis.call('HSET', hooks_key, 'graceMs', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'caller', ARGV[4],
  'messages', ARGV[5])
local most = tonumber(ARGV[3])

-- Looks through a new place first: no leave may be told before a join that happened earlier.
local place = redis.call('HKEYS', walks)[1]
if place then
  local node = string.sub(place, string.find(place, ':', 1, true) + 1)
  local groups = 'gru_stat_groups:' .. place
  if redis.call('HGET', 'gru_stat_node:' .. node, 'place') ~= place then
    redis.call('HDEL', walks, place)
    return { 'told', 0, 1, 0, before }
  end
  -- The group that it is in, "" for the users of the node, and the last name there.
  local at = cjson.decode(redis.call('HGET', walks, place))
  local group, after = at[1], at[2]
  while most > 0 do
    local low = after == '' and '-' or '(' .. after
    local names = redis.call('ZRANGEBYLEX', set_of(place, group), low, '+', 'LIMIT', 0, most)
    mark(true, group, names)
    most = most - #names - 1
    if most > 0 then
      group = redis.call('ZRANGEBYLEX', groups, group == '' and '-' or '(' .. group, '+', 'LIMIT', 0, 1)[1]
      after = ''
      if not group then
        redis.call('HDEL', walks, place)
        return { 'told', 0, 1, 0, before }
      end
    else
      after = names[#names] or after
    end
  end
  redis.call('HSET', walks, place, cjson.encode({ group, after }))
  return { 'told', 0, 1, 0, before }
end

local places = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  places[#places + 1] = redis.call('HGET', 'gru_stat_node:' .. name, 'place') or nil
end
local function is_there(group, user)
  for _, at in ipairs(places) do
    if redis.call('ZSCORE', set_of(at, group), user) then return true end
  end
  return false
end

local added = 0
local function tell(kind, subject, data)
  emit(kind, subject, data)
  added = added + 1
end
local due = redis.call('ZRANGEBYSCORE', marks, '-inf', now, 'LIMIT', 0, most)
local gone = {}
for _, name in ipairs(due) do
  local colon = string.find(name, ':', 1, true)
  local length = tonumber(string.sub(name, 1, colon - 1))
  local group, user = string.sub(name, colon + 1, colon + length), string.sub(name, colon + length + 1)
  local told = redis.call('ZSCORE', set_of(book, group), user)
  if is_there(group, user) then
    if not told then
      if group == '' then
        tell('user.online', 'user:' .. user, { userId = user })
      else
        if redis.call('ZADD', 'gru_stat_groups:' .. book, 0, group) == 1 then
          tell('group.occupied', 'group:' .. group, { groupId = group })
        end
        tell('member.joined', 'group:' .. group, { groupId = group, userId = user })
      end
      redis.call('ZADD', set_of(book, group), 0, user)
    end
  elseif told then
    gone[#gone + 1] = { group, user }
  end
end
-- Behind all who came, so that a group in which one relieves another does not seem empty in between.
for _, one in ipairs(gone) do
  local group, user = one[1], one[2]
  redis.call('ZREM', set_of(book, group), user)
  if group == '' then
    tell('user.offline', 'user:' .. user, { userId = user })
  else
    tell('member.left', 'group:' .. group, { groupId = group, userId = user })
    if redis.call('EXISTS', set_of(book, group)) == 0 then
      redis.call('ZREM', 'gru_stat_groups:' .. book, group)
      tell('group.vacated', 'group:' .. group, { groupId = group })
    end
  end
end
if #due > 0 then redis.call('ZREM', marks, unpack(due)) end
local next_mark = redis.call('ZRANGE', marks, 0, 0, 'WITHSCORES')[2]
local wait = next_mark and math.max(0, tonumber(next_mark) - now) or -1
return { 'told', added, wait == 0 and 1 or 0, wait, before }
