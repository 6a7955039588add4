-- KEYS memo, nodes, index of the node, then of each channel: c, o, n.
--   index   the channels that the node has entered
--   c       connections; entries: numbers given so far; t<USER>: the user's connections; n<USER>: its name
--   o       users by the number of their first entry
--   n       the node's connections by user
-- ARGV time, call, node, lease in ms, how many channels, their names, then of each change: which channel, verb, user, count, name ('' or '=' and it).
-- For each change: 1 came, 2 went or 0; users; connections.
local memo, nodes, index = KEYS[1], KEYS[2], KEYS[3]
local known = recall(memo, ARGV[2])
if known then return known end

local channels, answer = tonumber(ARGV[5]), {}
for i = 6 + channels, #ARGV, 5 do
  local base = 3 * ARGV[i]
  local c, o, n = KEYS[base + 1], KEYS[base + 2], KEYS[base + 3]
  local verb, user, name = ARGV[i + 1], ARGV[i + 2], ARGV[i + 4]
  local before = tonumber(redis.call('HGET', n, user) or 0)
  local after, transition = before, 0
  if verb == 'enter' then
    after = before + 1
  elseif verb == 'leave' then
    after = math.max(before - 1, 0)
  else
    after = tonumber(ARGV[i + 3])
  end
  local by, came = after - before, false
  if by ~= 0 then
    if after > 0 then redis.call('HSET', n, user, after) else redis.call('HDEL', n, user) end
    redis.call('HINCRBY', c, 'connections', by)
    local total = redis.call('HINCRBY', c, 't' .. user, by)
    if total == by then
      came, transition = true, 1
      redis.call('ZADD', o, redis.call('HINCRBY', c, 'entries', 1), user)
    elseif total <= 0 then
      transition = 2
      redis.call('HDEL', c, 't' .. user, 'n' .. user)
      redis.call('ZREM', o, user)
    end
  end
  if after > 0 and verb ~= 'leave' then
    if name ~= '' then
      redis.call('HSET', c, 'n' .. user, name:sub(2))
    elseif not came then
      redis.call('HDEL', c, 'n' .. user)
    end
  end
  local users = redis.call('ZCARD', o)
  answer[#answer + 1] = transition
  answer[#answer + 1] = users
  answer[#answer + 1] = tonumber(redis.call('HGET', c, 'connections') or 0)
  if users == 0 then redis.call('DEL', c) end
end

enrol(nodes, ARGV[3], now(ARGV[1]), ARGV[4])
for channel = 1, channels do
  local held = redis.call('EXISTS', KEYS[3 * channel + 3]) == 1
  redis.call(held and 'SADD' or 'SREM', index, ARGV[5 + channel])
end
return remember(memo, ARGV[2], answer)
