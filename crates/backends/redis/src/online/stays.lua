-- `users`: by APP:USER, packed, a user from its first connection until its grace time is over:
--   1 connections that are away, 2 connections that are online, 3 the state that everybody was told last, 4 when its last connection went (ms since 1970) or false,
--   5 by device: connections that are away, and online
-- `mine`: the node's connections by APP:USER, state and device, with zeros between. `leaving`: users without connections by when the last one went.

local function stay_of(users, name)
  local packed = redis.call('HGET', users, name)
  return packed and cmsgpack.unpack(packed)
end

local function keep(users, name, stay)
  redis.call('HSET', users, name, cmsgpack.pack(stay))
end

-- The node has `by` connections more.
local function add(mine, name, stay, state, device, by)
  local field = name .. '\0' .. state .. '\0' .. device
  if redis.call('HINCRBY', mine, field, by) <= 0 then redis.call('HDEL', mine, field) end
  stay[state] = stay[state] + by
  if device ~= '' then
    local counts = stay[5][device] or { 0, 0 }
    counts[state] = counts[state] + by
    stay[5][device] = counts[1] + counts[2] > 0 and counts or nil
  end
end

-- The state that is new, if it is another one now.
local function settle(leaving, name, stay, at, wall)
  if stay[1] + stay[2] == 0 then
    redis.call('ZADD', leaving, at, name)
    stay[4] = wall
    return nil
  end
  if stay[4] then
    redis.call('ZREM', leaving, name)
    stay[4] = false
  end
  local state = stay[2] > 0 and 2 or 1
  if state ~= stay[3] then
    stay[3] = state
    return state
  end
end
