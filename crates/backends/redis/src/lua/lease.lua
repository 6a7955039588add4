-- Leases: a hash `nodes` with
--   line         the server's line of history when a node renewed last
--   generation   how often that was another one
--   n<NODE>      UNTIL:GENERATION:TOKEN of its last renewal; generation 0 until it has renewed, 0:0:0 while it is evicted
-- A node that finds another token than before has lost what it had entered.

-- Whoever enters something has a lease from then on.
local function enrol(nodes, node, at, lease)
  redis.call('HSETNX', nodes, 'n' .. node, whole(at + lease) .. ':0:0')
end

local function condemn(nodes, node)
  if redis.call('HEXISTS', nodes, 'n' .. node) == 1 then
    redis.call('HSET', nodes, 'n' .. node, '0:0:0')
  end
end

-- Everything of the node is removed. Had it renewed meanwhile, it believes in entries that were removed since: its next renewal tells it.
local function release(nodes, node)
  local record = redis.call('HGET', nodes, 'n' .. node)
  if record == '0:0:0' then
    redis.call('HDEL', nodes, 'n' .. node)
  elseif record then
    redis.call('HSET', nodes, 'n' .. node, record:match('^%d+') .. ':0:0')
  end
end
