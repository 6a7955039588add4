-- KEYS memo, index of the node, then c, o, n of one channel (see apply); ARGV call, channel, at most how many users. Users in the channel, whether
-- the node has more there, then those who went.
local memo, index, c, o, n = unpack(KEYS)
local known = recall(memo, ARGV[1])
if known then return known end

local answer = { 0, 0 }
local held = redis.call('HRANDFIELD', n, ARGV[3], 'WITHVALUES')
for i = 1, #held, 2 do
  local user, count = held[i], tonumber(held[i + 1])
  redis.call('HDEL', n, user)
  redis.call('HINCRBY', c, 'connections', -count)
  if redis.call('HINCRBY', c, 't' .. user, -count) <= 0 then
    redis.call('HDEL', c, 't' .. user, 'n' .. user)
    redis.call('ZREM', o, user)
    answer[#answer + 1] = user
  end
end
answer[1] = redis.call('ZCARD', o)
if answer[1] == 0 then redis.call('DEL', c) end
answer[2] = redis.call('EXISTS', n)
if answer[2] == 0 then redis.call('SREM', index, ARGV[2]) end
return remember(memo, ARGV[1], answer)
