-- KEYS  1 states (hash: endpoint -> JSON)  2 lease  Returns { states: endpoint, state for each; the token of the holder or "" }
return { redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2]) or '' }
