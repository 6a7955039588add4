-- KEYS c, o (see apply); ARGV behind which entry, at most how many. Users in all, the last entry, then of each user: its id and name ('' or '=' and it).
local page = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local answer, fields = { redis.call('ZCARD', KEYS[2]), ARGV[1] }, {}
for i = 1, #page, 2 do
  fields[#fields + 1] = 'n' .. page[i]
  answer[2] = page[i + 1]
end
local names = #fields > 0 and redis.call('HMGET', KEYS[1], unpack(fields)) or {}
for i = 1, #page, 2 do
  local name = names[(i + 1) / 2]
  answer[#answer + 1] = page[i]
  answer[#answer + 1] = name and '=' .. name or ''
end
return answer
