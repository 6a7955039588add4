-- KEYS nodes, index of the server, hosts; ARGV server, at most how many channels, '1' at first. How many may be left.
local nodes, index, hosts = unpack(KEYS)
local server = ARGV[1]
if ARGV[3] == '1' then condemn(nodes, server) end
for _, channel in ipairs(redis.call('SRANDMEMBER', index, ARGV[2])) do
  local packed = redis.call('HGET', hosts, channel)
  local by_server = packed and cmsgpack.unpack(packed) or {}
  by_server[server] = nil
  if next(by_server) then
    redis.call('HSET', hosts, channel, cmsgpack.pack(by_server))
  else
    redis.call('HDEL', hosts, channel)
  end
  redis.call('SREM', index, channel)
end
local left = redis.call('SCARD', index)
if left == 0 then release(nodes, server) end
return left
