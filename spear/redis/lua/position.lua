-- Where a target is. One that nobody has used yet begins here; one that is behind what a node has seen of the same
-- epoch has lost data and begins a new epoch, because a seq must not be given twice in one. So does one that another server
-- has counted: what it has may be an epoch that its predecessor had already left.
-- KEYS 1 state of the target (hash, see publish.lua)   2 log of the target (stream)
-- ARGV 1 epoch known to the node      2 seq known to the node   3 a new epoch   4 this server's name   5 state ms
--      6 1: the name is known to be the one of the server that is asked
-- Returns epoch, seq.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'gen', 'home')
local epoch, seq = state[1], tonumber(state[2])
if not epoch then
  epoch, seq = ARGV[3], 0
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', seq, 'gen', 1, 'home', ARGV[4])
elseif epoch == ARGV[1] and seq < tonumber(ARGV[2]) or ARGV[6] == '1' and state[4] ~= ARGV[4] then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[3], 'home', ARGV[4])
  -- An epoch without messages leaves no trace: each of several nodes may begin one after a loss, and what the last one before them
  -- had is still to be read by those who have not got it.
  if seq > 0 then redis.call('HSET', KEYS[1], 'seq', 0, 'gen', state[3] + 1, 'before', epoch) end
  epoch, seq = ARGV[3], 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { epoch, seq }
