-- Counts, keeps and, where a channel is given, sends out one message, atomically.
-- KEYS 1 state of the target (hash: epoch, seq, gen: ordinal of the epoch, before: the epoch before it, home: the
--        server that counts, n:<node>: "<number> <Unix ms>", that node's last publication, bytes: of all bodies that
--        were ever in the log, gone: how many of these are known to be no longer in it, void and voidBefore: epochs that
--        had no messages and ended at the latest when the present one, or the one before it, began, and
--        full: when the target takes as many messages at once as ever, Unix microseconds)
--      2 log of the target (stream: message seq of the epoch gen has the id <gen>-<seq>; i id, b body, t Unix ms,
--        e the state's bytes when it was added; none where an earlier version of spear added it)
--      3 nodes in mode rocketmq that listen (hash: tag -> expiry, Unix ms); the channel in Redis of those whose tag begins
--        with m is ARGV 14; earlier versions of spear have none
--      4 optional: what is remembered of the idempotency key, "<id> <epoch> <seq>"
-- ARGV 1 message id     2 body             3 node, another after each of its starts   4 number of the publication
--      5 1: has been sent before           6 a new epoch 7 this server's name
--      8 history size, or -1: it is ephemeral, which is sent out only and has the seq 0
--      9 history ms     10 state ms       11 history bytes
--     12 PUBLISH or SPUBLISH   13 channel of nodes in mode redis   14 channel of nodes in mode rocketmq
--     15 all: these nodes get it over their channel; some: they do if one of the tags in ARGV 17, … listens
--     16 "" or what the target takes, "<step> <allowed> <full>" of broker/rate.ts, microseconds
--     With an empty id nothing is published: it is only looked whether it could be.
-- Returns id, epoch, seq, { tags of nodes in mode rocketmq that nothing was sent to }, and 1 where
--         something was; or id, '', 0, {}, 0, and after how many ms it may be tried again: above the rate, nothing has happened.
--         Errors: FORGOTTEN it happened or not; all others: nothing has happened.

-- What a script has done before it fails is not undone. Therefore what may fail is asked first (from Redis 7 on), and the first write
-- is the one that can fail in other ways (memory, a disk that is full, no replica, a key of another kind).
local function may(...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(...) then
    local command, on = ...
    return redis.error_reply('NOPERM this user has no permission for ' .. command .. ' ' .. on)
  end
end
local refused = may('HSET', KEYS[1], 'f', 'v') or may('HDEL', KEYS[1], 'f') or may('PEXPIRE', KEYS[1], '1')
  or may('PEXPIRE', KEYS[2], '1') or may('DEL', KEYS[2]) or may('XADD', KEYS[2], '*', 'f', 'v')
  or may('XTRIM', KEYS[2], 'MINID', '1') or may('XRANGE', KEYS[2], '-', '+') or may('HGETALL', KEYS[1])
  or may('HGETALL', KEYS[3]) or may('HDEL', KEYS[3], 'f') or KEYS[4] and may('SET', KEYS[4], '')
  or may(ARGV[12], ARGV[13], '') or may(ARGV[12], ARGV[14], '')
if refused then return refused end
if ARGV[1] == '' then return { '', '', 0, {} } end

local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- The nodes in mode rocketmq that listen. Also when the message was counted before: it is not known to whom it was carried.
local function nodes()
  local tags, fields = {}, redis.call('HGETALL', KEYS[3])
  for i = 1, #fields, 2 do
    if tonumber(fields[i + 1]) >= ms then tags[#tags + 1] = fields[i]
    else redis.call('HDEL', KEYS[3], fields[i]) end
  end
  return tags
end

local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'gen', 'before', 'home', 'n:' .. ARGV[3], 'bytes', 'gone', 'void')
local epoch, seq, gen, before, home = state[1], tonumber(state[2]), tonumber(state[3]), state[4], state[5]

if KEYS[4] then
  local first = redis.call('GET', KEYS[4])
  if first then
    local id, itsEpoch, itsSeq = string.match(first, '(%S+) (%S+) (%S+)')
    -- A write, for replicas to confirm what they had before it.
    redis.call('PEXPIRE', KEYS[1], ARGV[10])
    return { id, itsEpoch, tonumber(itsSeq), nodes() }
  end
end

-- A node numbers its publications and sends them in order. One that is not newer than its last here is late: an
-- original that its own repetition, or a later one, has overtaken; or a repetition of one that may have been done.
local last = string.match(state[6] or '', '%d+')
if epoch and last and tonumber(ARGV[4]) <= tonumber(last) then
  if ARGV[5] ~= '1' then
    return redis.error_reply('OVERTAKEN a later publication of this node has been counted')
  end
  -- Only among the newest: reading bodies takes time, and many repetitions come together.
  local upTo, step, left = '+', 10, 2000000
  while left > 0 do
    local entries = redis.call('XREVRANGE', KEYS[2], upTo, '-', 'COUNT', step)
    for _, entry in ipairs(entries) do
      left = left - #entry[2][4] - 500
      if entry[2][2] == ARGV[1] then
        local itsGen, itsSeq = string.match(entry[1], '(%d+)-(%d+)')
        local itsEpoch = tonumber(itsGen) == gen and epoch or tonumber(itsGen) == gen - 1 and before
        if itsEpoch then return { ARGV[1], itsEpoch, tonumber(itsSeq), nodes() } end
      end
    end
    if #entries < step then break end
    upTo = '(' .. entries[step][1]
  end
  return redis.error_reply('FORGOTTEN what became of this publication is not kept')
end

-- Behind the repetitions: what was accepted before is answered as such.
local full
if ARGV[16] ~= '' then
  local step, allowed, most = string.match(ARGV[16], '(%d+) (%d+) (%d+)')
  local us = time[1] * 1000000 + time[2]
  -- The clock of another server may be behind: nobody waits longer than after a burst.
  local known = tonumber(redis.call('HMGET', KEYS[1], 'full')[1] or 0)
  local ahead = math.max(0, math.min(known - us, tonumber(most)))
  if ahead > tonumber(allowed) then return { ARGV[1], '', 0, {}, 0, math.ceil((ahead - allowed) / 1000) } end
  full = string.format('%.0f', us + math.min(ahead + step, tonumber(most)))
end

if tonumber(ARGV[8]) < 0 then
  if ARGV[5] == '1' and not KEYS[4] then
    return redis.error_reply('FORGOTTEN what became of this publication is not kept')
  end
  if full then
    redis.call('HSET', KEYS[1], 'full', full)
    redis.call('PEXPIRE', KEYS[1], ARGV[10])
  end
  if KEYS[4] then redis.call('SET', KEYS[4], ARGV[1] .. ' - 0', 'PX', ARGV[9]) end
  redis.call(ARGV[12], ARGV[13], '- 0 ' .. ARGV[2])
  -- Whatever else they get by RocketMQ: no other way says that it was lost.
  if #nodes() > 0 then redis.call(ARGV[12], ARGV[14], '- 0 ' .. ARGV[2]) end
  return { ARGV[1], '', 0, {} }
end

local renewed, void, voidBefore = false, state[9] or '', ''
if not epoch then
  epoch, seq, gen = ARGV[6], 0, 1
  redis.call('DEL', KEYS[2])
elseif home ~= ARGV[7] then
  -- Another server counts on: it may lack what its predecessor has sent out, so it must not go on with the epoch.
  -- One without messages is only named, as in position.lua.
  renewed = seq > 0
  if renewed then before, gen, voidBefore, void = epoch, gen + 1, void, ''
  else void = string.sub(epoch .. ' ' .. void, 1, 200) end
  epoch, seq = ARGV[6], 0
end
seq = seq + 1
local bytes, gone, mostBytes = tonumber(state[7] or 0) + #ARGV[2], tonumber(state[8] or 0), tonumber(ARGV[11])
local newest = gen .. '-' .. seq
if tonumber(ARGV[8]) > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], newest, 'i', ARGV[1], 'b', ARGV[2], 't', ms, 'e', bytes)
  redis.call('PEXPIRE', KEYS[2], ARGV[9])
end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', seq, 'gen', gen, 'home', ARGV[7], 'bytes', bytes,
  'n:' .. ARGV[3], ARGV[4] .. ' ' .. ms)
if full then redis.call('HSET', KEYS[1], 'full', full) end
if void ~= (state[9] or '') then redis.call('HSET', KEYS[1], 'void', void) end
if renewed then redis.call('HSET', KEYS[1], 'before', before, 'voidBefore', voidBefore) end
redis.call('PEXPIRE', KEYS[1], ARGV[10])
if not last then
  -- A node that is new here; those that have been silent for so long repeat nothing any more.
  local fields = redis.call('HGETALL', KEYS[1])
  for i = 1, #fields, 2 do
    local since = string.match(fields[i], '^n:') and string.match(fields[i + 1], ' (%d+)')
    if since and tonumber(since) < ms - tonumber(ARGV[10]) then redis.call('HDEL', KEYS[1], fields[i]) end
  end
end
if tonumber(ARGV[8]) > 0 then
  -- The oldest go until what is left is not too much; where many are to go, the next publications go on with it.
  local from, looked, known = '-', 0, gone
  while bytes - gone > mostBytes and looked < 1000000 do
    local oldest = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 1)[1]
    local length, till = #oldest[2][4], tonumber(oldest[2][8] or gone)
    if oldest[1] == newest or bytes - till + length <= mostBytes then
      gone = till - length
      break
    end
    local itsGen, itsSeq = string.match(oldest[1], '(%d+)-(%d+)')
    from, gone, looked = itsGen .. '-' .. itsSeq + 1, till, looked + length
  end
  if gone ~= known then redis.call('HSET', KEYS[1], 'gone', gone) end
  if from ~= '-' then redis.call('XTRIM', KEYS[2], 'MINID', from) end
end
if KEYS[4] then
  redis.call('SET', KEYS[4], ARGV[1] .. ' ' .. epoch .. ' ' .. seq, 'PX', ARGV[9])
end
local text = epoch .. ' ' .. seq .. ' ' .. ARGV[2]
redis.call(ARGV[12], ARGV[13], text)

local tags, sends = nodes(), ARGV[15] == 'all'
for _, tag in ipairs(tags) do
  for i = 17, #ARGV do sends = sends or tag == ARGV[i] end
end
if not sends or #tags == 0 then return { ARGV[1], epoch, seq, tags } end
redis.call(ARGV[12], ARGV[14], text)
local toCarry = {}
for _, tag in ipairs(tags) do
  if string.sub(tag, 1, 1) ~= 'm' then toCarry[#toCarry + 1] = tag end
end
return { ARGV[1], epoch, seq, toCarry, 1 }
