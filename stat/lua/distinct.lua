-- Counts the names of a listing over all nodes, each once, from one name on; in pieces, so that none holds Redis up.
-- KEYS  for each node: 2n-1 node, 2n user count (gone when its time to live has passed)
-- ARGV  1 listing: "users" or "groups"  2 lowest name as ZRANGEBYLEX takes it  3 names to read of each node at most
-- Returns how many there are, and the last name that was looked at: none when that was all
local keys = {}
for i = 1, #KEYS, 2 do
  local place = redis.call('EXISTS', KEYS[i + 1]) == 1 and redis.call('HGET', KEYS[i], 'place')
  if place then keys[#keys + 1] = 'gru_stat_' .. ARGV[1] .. ':' .. place end
end
if #keys == 1 and ARGV[2] == '-' then return { redis.call('ZCARD', keys[1]) } end

-- By bytes: Lua compares as the server's locale has it.
local function comes_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local lists, last = {}, nil
for i, key in ipairs(keys) do
  lists[i] = redis.call('ZRANGEBYLEX', key, ARGV[2], '+', 'LIMIT', 0, ARGV[3])
  local full = #lists[i] == tonumber(ARGV[3]) and lists[i][#lists[i]]
  if full and (not last or comes_before(full, last)) then last = full end
end
local seen, count = {}, 0
for i, key in ipairs(keys) do
  if last then lists[i] = redis.call('ZRANGEBYLEX', key, ARGV[2], '[' .. last, 'LIMIT', 0, ARGV[3]) end
  for _, name in ipairs(lists[i]) do
    if not seen[name] then
      seen[name] = true
      count = count + 1
    end
  end
end
return { count, last }
