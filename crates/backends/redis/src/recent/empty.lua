-- Takes a history out; whoever uses the channel next begins another one. How many slots it had.
local known = redis.call('HMGET', meta, 'head', 'first')
redis.call('UNLINK', meta, slots, fence)
if not known[1] then return 0 end
return tonumber(known[1]) - tonumber(known[2]) + 1
