-- Behind era.lua: whether a node has reported in this era, or to a stat of before there were eras, which stamps nothing.
local function has_reported(node, count)
  local head = redis.call('HMGET', node, 'place', 'era')
  if not head[1] then return false end
  if head[2] then return head[2] == era_id end
  return redis.call('EXISTS', count) == 1
end
