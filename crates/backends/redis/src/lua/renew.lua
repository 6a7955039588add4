-- KEYS nodes; ARGV time, node, lease in ms, a token if a new one is needed. The node's token.
local nodes, node = KEYS[1], 'n' .. ARGV[2]
local at, here = now(ARGV[1]), line()
local known = redis.call('HMGET', nodes, 'line', 'generation', node)
local generation = tonumber(known[2] or 0)
if known[1] ~= here or generation == 0 then
  generation = generation + 1
  redis.call('HSET', nodes, 'line', here, 'generation', generation)
end
local before, of, token = (known[3] or '0:0:0'):match('^(%d+):(%d+):(%d+)$')
if tonumber(of) ~= generation or tonumber(before) <= at then token = ARGV[4] end
redis.call('HSET', nodes, node, whole(at + ARGV[3]) .. ':' .. whole(generation) .. ':' .. token)
return token
