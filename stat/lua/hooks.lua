-- Behind era.lua, in the scripts that change what hooks tell of: whether hooks are on, marks, and adding events.
-- What was told is kept as a place like those of nodes, the book: who was told as online, and as a member of which group. A mark
-- says that a user, or a user in a group, may differ from the book. Each change of the truth that makes such a difference makes
-- the mark in its own step, and only tell.lua removes it: so a difference without a mark cannot be.
-- Keys, each ending in the tag that all keys have:
--   gru_stat_hooks  hash: book, graceMs, until (when hooks count as switched off), run (the server that the book is known to be of),
--                   caller (who told last), messages (1: they are wanted), nodes (JSON: name of a program that was told as live -> when it was started)
--   gru_stat_marks  sorted set: whom, see marked() -> when it may be told
--   gru_stat_walks  hash: place whose names may not be marked yet -> how far it was looked through
--   gru_stat_events  stream: k kind, s subject, t Unix milliseconds, d data as JSON
--   gru_stat_events_held  list: events that wait until it is known whether the stream lacks some before them
--   gru_stat_unread, gru_stat_active, gru_stat_read: see active.lua
-- Needs no key of its own where hooks are off, but reads one.
local tag = string.sub(era, 13)
local hooks_key, marks, walks = 'gru_stat_hooks' .. tag, 'gru_stat_marks' .. tag, 'gru_stat_walks' .. tag
local events, held = 'gru_stat_events' .. tag, 'gru_stat_events_held' .. tag
local hooks = redis.call('HMGET', hooks_key, 'book', 'graceMs', 'until', 'run')
local book = hooks[1] and tonumber(hooks[3]) > now and hooks[1]
local now_text = string.format('%.0f', now)

local function set_of(place, group)
  return group == '' and 'gru_stat_users:' .. place or 'gru_stat:' .. place .. '_' .. group
end

-- As a name of a mark. A group's name is at its beginning, with its length before it; "" for the user alone.
local function marked(group, user)
  return #group .. ':' .. group .. user
end

-- Marks those that differ from the book when they come (at once) or go (when the grace has passed). A second change of one that
-- is marked already: who comes is looked at sooner, who goes later.
local function mark(joins, group, users)
  if not book or #users == 0 then return end
  local told = redis.call('ZMSCORE', set_of(book, group), unpack(users))
  local due = joins and now or now + hooks[2]
  local found = {}
  for i, user in ipairs(users) do
    if joins == not told[i] then
      found[#found + 1] = due
      found[#found + 1] = marked(group, user)
    end
  end
  if #found > 0 then redis.call('ZADD', marks, joins and 'LT' or 'GT', unpack(found)) end
end

-- On a server that may lack the newest events an event is held back: its position would hide that some are missing.
local function emit(kind, subject, data)
  if not book then return end
  local text = cjson.encode(data)
  if hooks[4] == run then
    redis.call('XADD', events, '*', 'k', kind, 's', subject, 't', now_text, 'd', text)
  else
    redis.call('RPUSH', held, cjson.encode({ kind, subject, now_text, text }))
    redis.call('LTRIM', held, -10000, -1)
  end
end
