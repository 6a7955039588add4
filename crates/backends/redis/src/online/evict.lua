-- KEYS nodes, mine, leaving, users; ARGV time, node, ms since 1970, at most how many, '1' at first. How many may be left.
local nodes, mine, leaving, users = unpack(KEYS)
local at = now(ARGV[1])
if ARGV[5] == '1' then condemn(nodes, ARGV[2]) end
local held = redis.call('HRANDFIELD', mine, ARGV[4], 'WITHVALUES')
for i = 1, #held, 2 do
  local name, state, device = held[i]:match('^(%Z+)%z(%d)%z(%Z*)$')
  local stay = name and stay_of(users, name)
  if stay then
    add(mine, name, stay, tonumber(state), device, -held[i + 1])
    -- A state that is less now is told with the next movement: nobody would hear it here.
    if stay[1] + stay[2] == 0 then settle(leaving, name, stay, at, tonumber(ARGV[3])) end
    keep(users, name, stay)
  end
  redis.call('HDEL', mine, held[i])
end
local left = redis.call('HLEN', mine)
if left == 0 then release(nodes, ARGV[2]) end
return left
