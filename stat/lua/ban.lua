-- Sets the ban of a user or group, or a mute, or lifts it.
-- KEYS  1 bans or mutes (see bans.lua)
-- ARGV  1 whom, as in the hash  2 kind  3 id  4 reason  5 how long, ms; "" to lift it  6 1: hooks are told of a new one
-- Returns the record, or false when there was nothing to lift
local known = redis.call('HGET', KEYS[1], ARGV[1])
local record = known and cjson.decode(known) or { version = 0, ['until'] = 0 }
local kept = record.keptUntil or record['until']
local lifts = ARGV[5] == ''
if lifts and record['until'] <= now then return false end
record.kind, record.id = ARGV[2], ARGV[3]
if lifts then
  record['until'] = 0
else
  record.reason, record['until'] = ARGV[4], now + ARGV[5]
end
-- An older copy of the data may have it: it is remembered as long as that would hold.
record.keptUntil = math.max(kept, record['until'])
record.version = math.max(now, (record.version or 0) + 1)
local text = cjson.encode(record)
redis.call('HSET', KEYS[1], ARGV[1], text)
if not lifts and ARGV[6] == '1' then
  emit('user.banned', ARGV[2] .. ':' .. ARGV[3], {
    [ARGV[2] .. 'Id'] = ARGV[3],
    reason = ARGV[4],
    untilMs = record['until'],
  })
end
return text
