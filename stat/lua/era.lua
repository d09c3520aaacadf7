-- Begins every script of stat.
-- An era is a time in which nothing of the data can have been lost: the same server, never emptied, and never out of reach for longer
-- than a report may be missing. What a node reported in an earlier era proves nothing: the server may be another one that lacks the
-- last reports, or nodes may only seem to be silent because their reports could not arrive.
-- KEYS  1 era (hash: id, run of the server, since, seen, settled: 1 when every live node has reported in this era)
-- ARGV  1 run: which start of which server this connection leads to  2 for how long nobody may be there, ms
-- Takes these off KEYS and ARGV, and leaves: now (Unix milliseconds on this Redis's clock), era (the key), era_id, since, settled
local era = table.remove(KEYS, 1)
local run = table.remove(ARGV, 1)
local gap = tonumber(table.remove(ARGV, 1))
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Changes nothing. A server that takes no writes, as a replica, refuses here: its data may be old.
redis.call('PERSIST', era)
local known = redis.call('HMGET', era, 'id', 'run', 'seen', 'since', 'settled')
local era_id, since, settled = known[1], tonumber(known[4]), known[5] == '1'
local silence = now - (tonumber(known[3]) or 0)
if known[2] ~= run or silence > gap or silence < -gap then
  -- To the microsecond: a store may be emptied in the millisecond in which its era began.
  era_id, since, settled = run .. ':' .. time[1] .. '.' .. time[2], now, false
  redis.call('HSET', era, 'id', era_id, 'run', run, 'seen', now, 'since', now, 'settled', 0)
elseif silence > gap / 6 then
  redis.call('HSET', era, 'seen', now)
end
