-- KEYS nodes, index of the server, hosts; ARGV time, server, lease in ms, then channels and connections.
--   hosts   by channel, packed: connections by server
local nodes, index, hosts = unpack(KEYS)
local server = ARGV[2]
for i = 4, #ARGV, 2 do
  local channel, connections = ARGV[i], tonumber(ARGV[i + 1])
  local packed = redis.call('HGET', hosts, channel)
  local by_server = packed and cmsgpack.unpack(packed) or {}
  by_server[server] = connections > 0 and connections or nil
  if next(by_server) then
    redis.call('HSET', hosts, channel, cmsgpack.pack(by_server))
  else
    redis.call('HDEL', hosts, channel)
  end
  redis.call(connections > 0 and 'SADD' or 'SREM', index, channel)
end
enrol(nodes, server, now(ARGV[1]), ARGV[3])
return 0
