-- The users of a group on one node, for a read that began in this era.
-- KEYS  1 the set  ARGV  1 id of the era
if ARGV[1] ~= era_id then return redis.error_reply('AWAY the data may have been lost since the read began') end
return redis.call('ZRANGE', KEYS[1], 0, -1)
