-- Puts a text into a node's fallback mailbox, or empties a mailbox that is full: then nothing in it will be read.
-- KEYS 1 mailbox (list of texts)   2 the bytes in it; an earlier version of spear does not reset them, so they may be too many
-- ARGV 1 text   2 bytes and 3 texts that a mailbox may have   4 time to live, ms
-- Returns 1: it is in the mailbox, 0: the mailbox was full.
local bytes = redis.call('INCRBY', KEYS[2], #ARGV[1])
local length = redis.call('LLEN', KEYS[1]) + 1
if length > 1 and (bytes > tonumber(ARGV[2]) or length > tonumber(ARGV[3])) then
  redis.call('DEL', KEYS[1], KEYS[2])
  return 0
end
if length == 1 then redis.call('SET', KEYS[2], #ARGV[1]) end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
