-- Tells which programs came and went since the last call, whichever stat made it.
-- KEYS  none
-- ARGV  1 the live ones, JSON: name -> when it was started  2 how those ended that are gone, JSON: name -> "left" or "died"
-- Returns { "waiting" }, or { "told", names whose end has to be found out for a further call, JSON }
if not book or hooks[4] ~= run then return { 'waiting' } end
local live, ends = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local text = redis.call('HGET', hooks_key, 'nodes')
local told = text and cjson.decode(text) or {}
local unknown = {}
for name, started in pairs(told) do
  -- 0: the holder of the lease remembered the event, see resume.lua, and that has no time.
  if started == 0 and live[name] then
    told[name] = live[name]
  elseif live[name] ~= started then
    if ends[name] then
      told[name] = nil
      emit('node.' .. ends[name], 'node:' .. name, { node = name })
    else
      unknown[#unknown + 1] = { name, started }
    end
  end
end
for name, started in pairs(live) do
  if not told[name] then
    told[name] = started
    emit('node.joined', 'node:' .. name, { node = name })
  end
end
redis.call('HSET', hooks_key, 'nodes', cjson.encode(told))
return { 'told', #unknown > 0 and cjson.encode(unknown) or '[]' }
