-- What is kept of a target after a position, and where the target is.
-- KEYS 1 state of the target (hash)   2 log of the target (stream)
-- ARGV 1 epoch of the position        2 seq of the position     3 the last seq wanted, or +
--      4 history size                 5 history ms
-- Returns epoch, seq, { seq, body, seq, body, … }.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq')
local epoch, seq = state[1] or '', tonumber(state[2]) or 0
local from = epoch == ARGV[1] and tonumber(ARGV[2]) or 0
-- The log is trimmed in whole blocks: it may hold more than it promises.
from = math.max(from, seq - tonumber(ARGV[4]))
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[5])
local entries = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], (from + 1) .. '-0', ARGV[3])) do
  if tonumber(entry[2][6]) >= oldest then
    entries[#entries + 1] = tonumber(string.match(entry[1], '%d+'))
    entries[#entries + 1] = entry[2][4]
  end
end
return { epoch, seq, entries }
