-- KEYS memo, leaving, users; ARGV time, call, grace time in ms, at most how many. Of each user whose grace time is over: its name, when it went.
local memo, leaving, users = unpack(KEYS)
local known = recall(memo, ARGV[2])
if known then return known end

local answer = {}
local over = redis.call('ZRANGEBYSCORE', leaving, '-inf', now(ARGV[1]) - ARGV[3], 'LIMIT', 0, ARGV[4])
if #over == 0 then return answer end
for _, name in ipairs(over) do
  local stay = stay_of(users, name)
  redis.call('ZREM', leaving, name)
  redis.call('HDEL', users, name)
  if stay then
    answer[#answer + 1] = name
    answer[#answer + 1] = whole(stay[4] or 0)
  end
end
return remember(memo, ARGV[2], answer)
