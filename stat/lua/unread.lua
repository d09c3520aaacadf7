-- The targets whose logs should be read now.
-- KEYS  none  ARGV  1 how many at most
-- Returns "told", then each target and its position in gru_stat_read, see active.lua
local found = { 'told' }
if not book or hooks[4] ~= run then return found end
for _, target in ipairs(redis.call('ZRANGEBYSCORE', 'gru_stat_unread' .. tag, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  found[#found + 1] = target
  found[#found + 1] = redis.call('HGET', 'gru_stat_read' .. tag, target) or ' 0'
end
return found
