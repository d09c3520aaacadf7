-- Behind fence.lua. Removes a bounded number of the oldest events, those that are too old or too much. Where an endpoint did not have
-- some of them yet, an event says so in the same step.
-- KEYS  1 states (hash: endpoint -> JSON with "position")
-- ARGV  1 how long events are kept, ms  2 how much memory they may take, bytes  3 events to remove at most
--       4 endpoints, JSON: name -> { kinds: kind -> true, or none: all; match: ids, [from, to], "prefix*", or none: all }
-- Returns { "trimmed", events removed, 1 when there may be more }
if redis.call('EXISTS', events) == 0 then return { 'trimmed', 0, 0 } end
local bytes = redis.call('MEMORY', 'USAGE', events, 'SAMPLES', 0) or 0
local most, keep_from, max_bytes = tonumber(ARGV[3]), now - ARGV[1], tonumber(ARGV[2])
local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', most)
local function parts(position)
  local ms, n = string.match(position, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(n)
end
-- As `allows` of ticket/rights.ts.
local function allows(patterns, id)
  local number = tonumber(id)
  if number and (string.format('%.0f', number) ~= id or math.abs(number) > 9007199254740991) then number = nil end
  for _, pattern in ipairs(patterns) do
    if type(pattern) == 'number' then
      if pattern == number then return true end
    elseif type(pattern) == 'table' then
      if number and pattern[1] <= number and number <= pattern[2] then return true end
    elseif string.sub(pattern, -1) == '*' then
      if string.sub(id, 1, #pattern - 1) == string.sub(pattern, 1, -2) then return true end
    elseif pattern == id then
      return true
    end
  end
  return false
end
-- As `isWanted` of hooks/wanted.ts.
local function wants(one, kind, subject, gap)
  if gap then return not gap.endpoint or gap.endpoint == one.name end
  if one.kinds and not one.kinds[kind] then return false end
  if not one.match or string.sub(subject, 1, 5) == 'node:' then return true end
  return allows(one.match, string.match(subject, ':(.*)'))
end
local endpoints = {}
for name, wanted in pairs(cjson.decode(ARGV[4])) do
  local state = redis.call('HGET', KEYS[1], name)
  local ms, n = parts(state and cjson.decode(state).position or '0-0')
  endpoints[#endpoints + 1] = { name = name, kinds = wanted.kinds, match = wanted.match, ms = ms, n = n, count = 0, bytes = 0 }
end
local removed, last, reason = 0, nil, 'age'
for _, entry in ipairs(oldest) do
  local ms, n = parts(entry[1])
  local kind, subject, data = entry[2][2], entry[2][4], entry[2][8]
  local t, size = tonumber(entry[2][6]), #data
  -- What a gap says that nobody was told is said by the next one.
  local gap = kind == 'hooks.gap' and cjson.decode(data)
  if ms >= keep_from then
    if bytes <= max_bytes then break end
    reason = 'size'
  end
  bytes = bytes - size - 100
  removed, last = removed + 1, { ms, n }
  for _, one in ipairs(endpoints) do
    if (ms > one.ms or ms == one.ms and n > one.n) and wants(one, kind, subject, gap) then
      one.count, one.bytes = one.count + (gap and gap.count or 1), one.bytes + (gap and gap.bytes or size)
      one.from, one.to = one.from or gap and gap.fromMs or t, t
    end
  end
end
if not last then return { 'trimmed', 0, 0 } end
redis.call('HSET', hooks_key, 'removed', string.format('%.0f-%.0f', last[1], last[2]))
redis.call('XTRIM', events, 'MINID', string.format('%.0f-%.0f', last[1], last[2] + 1))
for _, one in ipairs(endpoints) do
  if one.count > 0 then
    emit('hooks.gap', 'hooks:', { reason = reason, reset = false, endpoint = one.name, count = one.count,
      bytes = one.bytes, fromMs = one.from, toMs = one.to })
  end
end
return { 'trimmed', removed, removed == most and 1 or 0 }
