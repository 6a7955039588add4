-- KEYS nodes; ARGV time. Nodes whose lease is over.
local at, gone = now(ARGV[1]), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i]:sub(1, 1) == 'n' and tonumber(all[i + 1]:match('^(%d+):%d+:%d+$') or math.huge) <= at then
    gone[#gone + 1] = all[i]:sub(2)
  end
end
return gone
