-- Counts, keeps and, where a channel is given, sends out one message, atomically.
-- KEYS 1 state of the target (hash: epoch, seq, gen: ordinal of the epoch, before: the epoch before it, home: the
--        server that counts, and n:<node>: "<number> <Unix ms>", that node's last publication)
--      2 log of the target (stream: message seq of the epoch gen has the id <gen>-<seq>; i id, b body, t Unix ms)
--      3 optional: what is remembered of the idempotency key, "<id> <epoch> <seq>"
-- ARGV 1 message id     2 body             3 node, another after each of its starts   4 number of the publication
--      5 1: has been sent before           6 a new epoch 7 this server's name         8 history size
--      9 history ms     10 state ms       11 optional: PUBLISH or SPUBLISH           12 channel
-- Returns id, epoch, seq. Errors: OVERTAKEN nothing has happened, FORGOTTEN it happened or not.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'gen', 'before', 'home', 'n:' .. ARGV[3])
local epoch, seq, gen, before, home = state[1], tonumber(state[2]), tonumber(state[3]), state[4], state[5]

if KEYS[3] then
  local first = redis.call('GET', KEYS[3])
  if first then
    local id, itsEpoch, itsSeq = string.match(first, '(%S+) (%S+) (%S+)')
    return { id, itsEpoch, tonumber(itsSeq) }
  end
end

-- A node numbers its publications and sends them in order. One that is not newer than its last here is late: an
-- original that its own repetition, or a later one, has overtaken; or a repetition of one that may have been done.
local last = string.match(state[6] or '', '%d+')
if epoch and last and tonumber(ARGV[4]) <= tonumber(last) then
  if ARGV[5] ~= '1' then
    return redis.error_reply('OVERTAKEN a later publication of this node has been counted')
  end
  local upTo, step = '+', 100
  for _ = 1, math.ceil(tonumber(ARGV[8]) / step) do
    local entries = redis.call('XREVRANGE', KEYS[2], upTo, '-', 'COUNT', step)
    for _, entry in ipairs(entries) do
      if entry[2][2] == ARGV[1] then
        local itsGen, itsSeq = string.match(entry[1], '(%d+)-(%d+)')
        local itsEpoch = tonumber(itsGen) == gen and epoch or tonumber(itsGen) == gen - 1 and before
        if itsEpoch then return { ARGV[1], itsEpoch, tonumber(itsSeq) } end
      end
    end
    if #entries < step then break end
    upTo = '(' .. entries[step][1]
  end
  return redis.error_reply('FORGOTTEN what became of this publication is not kept')
end

local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
if not epoch then
  epoch, seq, gen = ARGV[6], 0, 1
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'gen', gen, 'home', ARGV[7])
elseif home ~= ARGV[7] then
  -- Another server counts on: it may lack what its predecessor has sent out, so it must not go on with the epoch.
  before, epoch, seq, gen = epoch, ARGV[6], 0, gen + 1
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'gen', gen, 'before', before, 'home', ARGV[7])
end
if not last then
  -- A node that is new here; those that have been silent for so long repeat nothing any more.
  local fields = redis.call('HGETALL', KEYS[1])
  for i = 1, #fields, 2 do
    local since = string.match(fields[i], '^n:') and string.match(fields[i + 1], ' (%d+)')
    if since and tonumber(since) < ms - tonumber(ARGV[10]) then redis.call('HDEL', KEYS[1], fields[i]) end
  end
end
seq = seq + 1
redis.call('HSET', KEYS[1], 'seq', seq, 'n:' .. ARGV[3], ARGV[4] .. ' ' .. ms)
redis.call('PEXPIRE', KEYS[1], ARGV[10])
if tonumber(ARGV[8]) > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], gen .. '-' .. seq, 'i', ARGV[1], 'b', ARGV[2], 't', ms)
  redis.call('PEXPIRE', KEYS[2], ARGV[9])
end
if KEYS[3] then
  redis.call('SET', KEYS[3], ARGV[1] .. ' ' .. epoch .. ' ' .. seq, 'PX', ARGV[9])
end
if ARGV[11] then redis.call(ARGV[11], ARGV[12], epoch .. ' ' .. seq .. ' ' .. ARGV[2]) end
return { ARGV[1], epoch, seq }
