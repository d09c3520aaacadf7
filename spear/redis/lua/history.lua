-- One page of what is kept of a target after a position, and where the target is.
-- KEYS 1 state of the target (hash, see publish.lua)   2 log of the target (stream)
-- ARGV 1 epoch of the position   2 seq of the position   3 history size   4 history ms
--      5 messages and 6 bytes of a page: it ends before the message that is too much, but has at least one
--      7 this server's name
-- Returns epoch, seq, the epoch before, where the next page begins { 0 or 1: of the epoch before, seq } or {},
--         { 0 or 1: of the epoch before, seq, body, … }, 1 if the epoch asked for ended when the one before began or earlier;
--         or nothing: another server has counted it, ask for its position first.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'gen', 'before', 'home', 'voidBefore')
local epoch, seq, gen, before = state[1], tonumber(state[2]), tonumber(state[3]), state[4] or ''
local after, size = tonumber(ARGV[2]), tonumber(ARGV[3])
local most, mostBytes = tonumber(ARGV[5]), tonumber(ARGV[6])
if not epoch then return { '', 0, '', {}, {}, 0 } end
if state[5] ~= ARGV[7] then return false end
local isBefore = 0
if ARGV[1] ~= '' and string.find(' ' .. (state[6] or '') .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then isBefore = 1 end
if size == 0 then return { epoch, seq, before, {}, {}, isBefore } end

-- The log is trimmed in whole blocks: it may hold more than it promises.
local firstGen, first = gen, math.max(seq - size, 0) + 1
if epoch == ARGV[1] then
  first = math.max(first, after + 1)
elseif seq < size and before ~= '' then
  local old = gen - 1 .. '-'
  local last = redis.call('XREVRANGE', KEYS[2], old .. '18446744073709551615', old .. '0', 'COUNT', 1)[1]
  if last then
    firstGen, first = gen - 1, math.max(tonumber(string.match(last[1], '-(%d+)')) - (size - seq) + 1, 0)
    if before == ARGV[1] then first = math.max(first, after + 1) end
  end
end

local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[4])
-- Few at a time: how long they are is not known before they are read, and what does not fit is read in vain.
local entries, count, room, step, from = {}, 0, mostBytes, 1, firstGen .. '-' .. first
-- What is too old is passed over, but not without end either.
local passes, passed = 4 * mostBytes, nil
while true do
  local kept = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', step)
  for _, entry in ipairs(kept) do
    local itsGen, itsSeq = string.match(entry[1], '(%d+)-(%d+)')
    local isOld, body = gen - itsGen, entry[2][4]
    if tonumber(entry[2][6]) < oldest then
      passes = passes - #body
    else
      if count > 0 and #body > room then return { epoch, seq, before, passed, entries, isBefore } end
      room, count = room - #body, count + 1
      entries[3 * count - 2] = isOld
      entries[3 * count - 1] = tonumber(itsSeq)
      entries[3 * count] = body
    end
    passed = { isOld, tonumber(itsSeq) }
    if isOld == 0 and passed[2] == seq then return { epoch, seq, before, {}, entries, isBefore } end
    if room <= 0 or count == most or passes < 0 then return { epoch, seq, before, passed, entries, isBefore } end
  end
  if #kept < step then return { epoch, seq, before, {}, entries, isBefore } end
  from = '(' .. kept[step][1]
  step = math.max(1, math.min(2 * step, 16, math.floor(room * math.max(count, 1) / (mostBytes - room + 1))))
end
