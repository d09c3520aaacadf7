-- Ends a node's time to live now.
-- KEYS  1 user count of the node  2 nodes (sorted set: node -> when it expires)  ARGV  1 node
redis.call('ZADD', KEYS[2], 'XX', 0, ARGV[1])
redis.call('DEL', KEYS[1])
return 1
