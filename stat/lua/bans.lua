-- All that is remembered of bans, or of mutes; forgets what need not be remembered any longer.
-- KEYS  1 bans or mutes (hash: whom -> JSON, see banRecordSchema; without version and keptUntil from a stat of before there were any)
-- Returns this Redis's clock, Unix milliseconds, and the records
local records = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local record = cjson.decode(all[i + 1])
  if (record.keptUntil or record['until']) > now then
    records[#records + 1] = all[i + 1]
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return { now, records }
