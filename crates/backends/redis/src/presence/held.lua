-- KEYS nodes, index of the node; ARGV node, '1' at first. Some of the channels that it has entered; when there are none, it is gone.
if ARGV[2] == '1' then condemn(KEYS[1], ARGV[1]) end
local some = redis.call('SRANDMEMBER', KEYS[2], 32)
if #some == 0 then release(KEYS[1], ARGV[1]) end
return some
