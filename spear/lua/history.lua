-- What is kept of a target after a position, and where the target is.
-- KEYS 1 state of the target (hash, see publish.lua)   2 log of the target (stream)
-- ARGV 1 epoch of the position        2 seq of the position     3 the last seq wanted of the present epoch, or +
--      4 history size                 5 history ms
-- Returns epoch, seq, the epoch before, { 0 or 1: of the epoch before, seq, body, … }.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'gen', 'before')
local epoch, seq, gen, before = state[1], tonumber(state[2]), tonumber(state[3]), state[4]
local size = tonumber(ARGV[4])
local entries = {}
if not epoch then return { '', 0, '', entries } end
if size == 0 then return { epoch, seq, before or '', entries } end

local from = '-'
-- The log is trimmed in whole blocks: it may hold more than it promises.
if epoch == ARGV[1] then
  from = gen .. '-' .. math.max(tonumber(ARGV[2]), seq - size) + 1
elseif before and before == ARGV[1] then
  from = (gen - 1) .. '-' .. ARGV[2] + 1
end
local to = ARGV[3] == '+' and '+' or gen .. '-' .. ARGV[3]
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[5])
local kept = redis.call('XREVRANGE', KEYS[2], to, from, 'COUNT', size)
for i = #kept, 1, -1 do
  local itsGen, itsSeq = string.match(kept[i][1], '(%d+)-(%d+)')
  if tonumber(kept[i][2][6]) >= oldest and tonumber(itsGen) >= gen - 1 then
    entries[#entries + 1] = gen - itsGen
    entries[#entries + 1] = tonumber(itsSeq)
    entries[#entries + 1] = kept[i][2][4]
  end
end
return { epoch, seq, before or '', entries }
