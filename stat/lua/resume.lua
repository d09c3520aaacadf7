-- Makes the book usable again on a server that may lack the newest events, or has no book.
-- With "reset" begins a new book, and an event says that all who are present are told again. Otherwise adds the events that the
-- holder of the lease remembers behind the last one of the stream, under the positions that they had, and takes them into the
-- book: they were delivered. What they speak of is marked, as the truth may be another one here.
-- KEYS  1 nodes (sorted set: node -> when it expires)  2 garbage (sorted set: place -> when it may be swept)
-- ARGV  1 grace, ms  2 time after which hooks are off without a further call, ms  3 "reset", "more" (further events follow) or "last"
--       4... events: position, kind, subject, t, d for each
if ARGV[3] == 'reset' then
  if hooks[1] then redis.call('ZADD', KEYS[2], 0, hooks[1]) end
  redis.call('DEL', marks, walks)
  redis.call('HDEL', hooks_key, 'nodes')
  book = 'told:' .. tag .. time[1] .. '.' .. time[2]
  hooks[1], hooks[2], hooks[4] = book, ARGV[1], run
  redis.call('HSET', hooks_key, 'book', book)
  for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local place = redis.call('HGET', 'gru_stat_node:' .. node, 'place')
    if place then redis.call('HSET', walks, place, '["",""]') end
  end
  emit('hooks.gap', 'hooks:', { reason = 'lost', reset = true })
end
local text_of_nodes = redis.call('HGET', hooks_key, 'nodes')
local nodes = text_of_nodes and cjson.decode(text_of_nodes) or {}
for i = 4, #ARGV, 5 do
  local position, kind, subject, t, text = unpack(ARGV, i, i + 4)
  redis.call('XADD', events, position, 'k', kind, 's', subject, 't', t, 'd', text)
  local data = cjson.decode(text)
  local group, user = data.groupId or '', data.userId
  local groups = 'gru_stat_groups:' .. book
  if kind == 'user.online' or kind == 'member.joined' then
    redis.call('ZADD', set_of(book, group), 0, user)
    if group ~= '' then redis.call('ZADD', groups, 0, group) end
    redis.call('ZADD', marks, 'GT', now + ARGV[1], marked(group, user))
  elseif kind == 'user.offline' or kind == 'member.left' then
    redis.call('ZREM', set_of(book, group), user)
    if group ~= '' and redis.call('EXISTS', set_of(book, group)) == 0 then
      redis.call('ZREM', groups, group)
    end
    redis.call('ZADD', marks, 'LT', now, marked(group, user))
  elseif kind == 'message.accepted' then
    redis.call('HSET', 'gru_stat_read' .. tag, data.groupId and 'group:' .. group or 'user:' .. user, data.epoch .. ' ' .. string.format('%.0f', data.seq))
  elseif data.node then
    nodes[data.node] = kind == 'node.joined' and 0 or nil
  end
end
redis.call('HSET', hooks_key, 'nodes', cjson.encode(nodes))
if ARGV[3] ~= 'more' then
  redis.call('HSET', hooks_key, 'graceMs', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]), 'run', run)
  for _, text in ipairs(redis.call('LRANGE', held, 0, -1)) do
    local one = cjson.decode(text)
    redis.call('XADD', events, '*', 'k', one[1], 's', one[2], 't', one[3], 'd', one[4])
  end
  redis.call('DEL', held)
end
return { 'resumed' }
