-- Behind hooks.lua, in the scripts that only the holder of the lease may run: the first of ARGV is its token, and is taken off.
-- KEYS  none  Key: gru_stat_hooks_lease, a string: the token of the present holder
if redis.call('GET', 'gru_stat_hooks_lease' .. tag) ~= table.remove(ARGV, 1) then return { 'fenced' } end
