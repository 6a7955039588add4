-- KEYS nodes, hosts; ARGV time, channels. Of each channel: servers whose lease is not over, each with its connections.
local nodes, hosts = unpack(KEYS)
local at, lives, answer = now(ARGV[1]), {}, {}
for i = 2, #ARGV do
  local packed = redis.call('HGET', hosts, ARGV[i])
  local found = {}
  for server, connections in pairs(packed and cmsgpack.unpack(packed) or {}) do
    if lives[server] == nil then
      local record = redis.call('HGET', nodes, 'n' .. server)
      lives[server] = record and tonumber(record:match('^%d+')) > at or false
    end
    if lives[server] then
      found[#found + 1] = server
      found[#found + 1] = whole(connections)
    end
  end
  answer[i - 1] = found
end
return answer
