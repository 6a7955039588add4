-- A script that is run again because nobody heard its answer answers the same and changes nothing: each caller has one call under way, and its last answer is
-- kept under `memo` for a minute.

local function recall(memo, id)
  local last = redis.call('GET', memo)
  if last and last:sub(1, #id) == id then return cmsgpack.unpack(last:sub(#id + 1)) end
end

local function remember(memo, id, answer)
  redis.call('SET', memo, id .. cmsgpack.pack(answer), 'PX', 60000)
  return answer
end
