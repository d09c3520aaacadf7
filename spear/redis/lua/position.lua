-- Where targets are. One that nobody has used yet begins here; one that is behind what a node has seen of the same
-- epoch has lost data and begins a new epoch, because a seq must not be given twice in one. So does one that another server
-- has counted: what it has may be an epoch that its predecessor had already left.
-- KEYS of each target: 1 its state (hash, see publish.lua)   2 its log (stream)
-- ARGV of each target: 1 epoch known to the node   2 seq known to the node   3 a new epoch   4 this server's name   5 state ms
--                      6 1: the name is known to be the one of the server that is asked
-- Returns epoch, seq of each target.
local answer = {}
for i = 0, #KEYS / 2 - 1 do
  local key, log, at = KEYS[2 * i + 1], KEYS[2 * i + 2], 6 * i
  local known, seen, fresh, name, named = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3], ARGV[at + 4], ARGV[at + 6]
  local state = redis.call('HMGET', key, 'epoch', 'seq', 'gen', 'home', 'void')
  local epoch, seq = state[1], tonumber(state[2])
  if not epoch then
    epoch, seq = fresh, 0
    redis.call('DEL', log)
    redis.call('HSET', key, 'epoch', epoch, 'seq', seq, 'gen', 1, 'home', name)
  elseif epoch == known and seq < seen or named == '1' and state[4] ~= name then
    redis.call('HSET', key, 'epoch', fresh, 'home', name)
    -- An epoch without messages is only named: each of several nodes may begin one after a loss, and what the last one before them
    -- had is still to be read by those who have not got it.
    if seq > 0 then redis.call('HSET', key, 'seq', 0, 'gen', state[3] + 1, 'before', epoch, 'voidBefore', state[5] or '', 'void', '')
    else redis.call('HSET', key, 'void', string.sub(epoch .. ' ' .. (state[5] or ''), 1, 200)) end
    epoch, seq = fresh, 0
  end
  redis.call('PEXPIRE', key, ARGV[at + 5])
  answer[2 * i + 1], answer[2 * i + 2] = epoch, seq
end
return answer
