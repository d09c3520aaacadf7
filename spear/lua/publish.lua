-- Counts, keeps and sends out one message, atomically.
-- KEYS 1 state of the target (hash: epoch, seq, and per node <session>:<number> of its last publication)
--      2 log of the target (stream; the entry of seq n has the id n-0; fields: i id, b body, t Unix ms)
--      3 optional: what is remembered of the idempotency key, "<id> <epoch> <seq>"
-- ARGV 1 message id     2 body             3 node        4 session of the node   5 number of the publication
--      6 a new epoch    7 history size     8 history ms  9 state ms             10 PUBLISH or SPUBLISH
--      11 channel
-- Returns id, epoch, seq.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', ARGV[3])
local epoch, seq, last = state[1], tonumber(state[2]), state[3]

if KEYS[3] then
  local before = redis.call('GET', KEYS[3])
  if before then
    local id, itsEpoch, itsSeq = string.match(before, '(%S+) (%S+) (%S+)')
    return { id, itsEpoch, tonumber(itsSeq) }
  end
end

-- A node numbers its publications. One that is not newer than its last here is a repetition after a broken
-- connection, or an original that was overtaken by its repetition: it may be in the log already.
local session, number = string.match(last or '', '(.+):(%d+)$')
if epoch and session == ARGV[4] and tonumber(ARGV[5]) <= tonumber(number) and tonumber(ARGV[7]) > 0 then
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[7])) do
    if entry[2][2] == ARGV[1] then
      return { ARGV[1], epoch, tonumber(string.match(entry[1], '%d+')) }
    end
  end
else
  number = ARGV[5]
end

if not epoch then
  epoch, seq = ARGV[6], 0
  redis.call('DEL', KEYS[2])
end
seq = seq + 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', seq, ARGV[3], ARGV[4] .. ':' .. number)
redis.call('PEXPIRE', KEYS[1], ARGV[9])
if tonumber(ARGV[7]) > 0 then
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], seq .. '-0', 'i', ARGV[1], 'b', ARGV[2], 't', ms)
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
if KEYS[3] then
  redis.call('SET', KEYS[3], ARGV[1] .. ' ' .. epoch .. ' ' .. seq, 'PX', ARGV[8])
end
redis.call(ARGV[10], ARGV[11], epoch .. ' ' .. seq .. ' ' .. ARGV[2])
return { ARGV[1], epoch, seq }
