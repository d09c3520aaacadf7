-- Whether a server that has started again has all that it had confirmed before. The nodes that were there before say so: each
-- compares where it has been with what the server has, and gives its vote. When all have, and nothing more is missing than the last
-- moments, of which they know, the server goes on under its name. Otherwise it gets a new one, under which all targets begin
-- new epochs.
-- KEYS  1 hash: run (the start of the server that has been judged), home (the server's name since then),
--         judging, since, lost (the start that is being judged, from when on, and whether a node misses more),
--         b:<session> (when that node was last there, Unix ms), w:<session> (its vote is waited for)
-- ARGV  1 this start of the server   2 the node's session   3 the name of a server that was never judged   4 a new name
--       5 1: the node's vote   6 when it was last there as far as it was answered, Unix ms, or 0
--       7 time that votes are waited for, ms; 0: only this node's counts   8 time that it may be behind, ms
-- Returns judged 1 or 0, home, the time, Unix ms.
local key, run, session = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('HMGET', key, 'run', 'home', 'judging', 'since', 'lost', 'b:' .. session)
local home = head[2] or ARGV[3]

if not head[1] then
  redis.call('HSET', key, 'run', run, 'home', home)
  head[1] = run
end
if head[1] == run then
  redis.call('HSET', key, 'b:' .. session, now)
  return { 1, home, now }
end

local fields = redis.call('HGETALL', key)
if head[3] ~= run then
  local newest, seen = 0, {}
  for i = 1, #fields, 2 do
    local itsSession = string.match(fields[i], '^b:(.*)')
    if itsSession then
      seen[itsSession] = tonumber(fields[i + 1])
      newest = math.max(newest, seen[itsSession])
    elseif string.match(fields[i], '^w:') then
      redis.call('HDEL', key, fields[i])
    end
  end
  for itsSession, at in pairs(seen) do
    -- Nodes that had gone before have nothing to say.
    if at < newest - 5000 then redis.call('HDEL', key, 'b:' .. itsSession)
    else redis.call('HSET', key, 'w:' .. itsSession, 1) end
  end
  redis.call('HSET', key, 'judging', run, 'since', now, 'lost', 0)
  head[4], head[5] = now, '0'
  fields = redis.call('HGETALL', key)
end

if ARGV[5] ~= '1' then return { 0, home, now } end
local lost = head[5] == '1' or tonumber(head[6] or 0) < tonumber(ARGV[6]) - tonumber(ARGV[8])
redis.call('HSET', key, 'lost', lost and 1 or 0)
redis.call('HDEL', key, 'w:' .. session)
local waiting = false
if tonumber(ARGV[7]) > 0 then
  for i = 1, #fields, 2 do
    if string.match(fields[i], '^w:') and fields[i] ~= 'w:' .. session then waiting = true end
  end
end
if not lost and waiting and now - tonumber(head[4]) < tonumber(ARGV[7]) then return { 0, home, now } end
if lost or waiting then home = ARGV[4] end
redis.call('HSET', key, 'run', run, 'home', home, 'b:' .. session, now)
redis.call('HDEL', key, 'judging', 'since', 'lost')
return { 1, home, now }
