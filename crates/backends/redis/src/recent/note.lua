-- KEYS what is to be erased; ARGV whom, the step that was taken, how far it has come, how many slots were erased, how long to remember it, in ms.
-- How far it is by now, and how many were erased; nothing when it is not pending any more. Of two that took the same step one counts, but what each has erased.
local erasures, whom = KEYS[1], ARGV[1]
if redis.call('HEXISTS', erasures, 'since ' .. whom) == 0 then return false end
local erased = redis.call('HINCRBY', erasures, 'erased ' .. whom, ARGV[4])
if (redis.call('HGET', erasures, 'step ' .. whom) or '0') == ARGV[2] then
  redis.call('HSET', erasures, 'step ' .. whom, whole(ARGV[2] + 1), 'place ' .. whom, ARGV[3])
end
redis.call('PEXPIRE', erasures, ARGV[5])
return { redis.call('HGET', erasures, 'place ' .. whom) or '', erased }
