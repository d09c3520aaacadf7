-- Notes that messages to these targets are about to be published, so that their logs are read.
-- Keys, each ending in the tag: gru_stat_unread  sorted set: target -> when to read its log next
--   gru_stat_active  sorted set: target -> when it was noted last
--   gru_stat_read  hash: target -> "<epoch> <seq>" of the last message that events were made of
-- KEYS  none  ARGV  target (`user:5`, `group:10`) and its present position, as in gru_stat_read, for each
-- Returns 1; or 0 when no hook wants messages
if not book or redis.call('HGET', hooks_key, 'messages') ~= '1' then return 0 end
for i = 1, #ARGV, 2 do
  redis.call('HSETNX', 'gru_stat_read' .. tag, ARGV[i], ARGV[i + 1])
  redis.call('ZADD', 'gru_stat_active' .. tag, now, ARGV[i])
  redis.call('ZADD', 'gru_stat_unread' .. tag, 'LT', now, ARGV[i])
end
return 1
