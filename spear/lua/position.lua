-- Where a target is. One that nobody has used yet begins here, and so does one that is behind what a node has seen
-- of the same epoch: it has lost data, and a seq must not be given twice in an epoch.
-- KEYS 1 state of the target (hash)   2 log of the target (stream)
-- ARGV 1 epoch known to the node      2 seq known to the node   3 a new epoch   4 state ms
-- Returns epoch, seq.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
local epoch, seq = state[1], tonumber(state[2])
if not epoch or (epoch == ARGV[1] and seq < tonumber(ARGV[2])) then
  epoch, seq = ARGV[3], 0
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', seq)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { epoch, seq }
