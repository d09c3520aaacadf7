-- Takes in bans or mutes that nodes remember: of each user or group the latest version stands, and is kept as long as any of them.
-- KEYS  1 bans or mutes (see bans.lua)  ARGV  whom, as in the hash, and the record, for each
for i = 1, #ARGV, 2 do
  local record = cjson.decode(ARGV[i + 1])
  if record.keptUntil > now then
    local text = redis.call('HGET', KEYS[1], ARGV[i])
    local known = text and cjson.decode(text) or { version = -1, ['until'] = 0 }
    local kept = math.max(record.keptUntil, known.keptUntil or known['until'])
    local latest = (known.version or 0) >= record.version and known or record
    latest.keptUntil = kept
    redis.call('HSET', KEYS[1], ARGV[i], cjson.encode(latest))
  end
end
return 1
