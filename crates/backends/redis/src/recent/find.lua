-- ARGV a user, '1' where only the server writes, the seq to look from, at most how many slots to look at, and how many to find.
-- The seq to go on at, '0' at the end; then of each slot that is the user's, or about it: its seq and record.
local known = redis.call('HMGET', meta, 'head', 'first')
if not known[1] then return { '0' } end
local head, seq = tonumber(known[1]), math.max(tonumber(ARGV[3]), tonumber(known[2]))
local last, most = math.min(head, seq + ARGV[4] - 1), 2 * ARGV[5]

local function is_about(name)
  local data = redis.call('HGET', slots, 'p' .. name)
  if not data or #data < 5 then return false end
  -- A version, and the JSON behind its length.
  local a, b, c, d = data:byte(2, 5)
  local json = data:sub(6, 5 + a + 256 * b + 65536 * c + 16777216 * d)
  if not json:find('^%s*{') then return false end
  local read, value = pcall(cjson.decode, json)
  return read and value.user == ARGV[1]
end

local answer = { '0' }
while seq <= last and #answer <= most do
  local slot, name = load(seq), whole(seq)
  if slot and (slot[5] == ARGV[1] or (ARGV[2] == '1' and slot[5] == '$' and is_about(name))) then
    answer[#answer + 1] = name
    answer[#answer + 1] = redis.call('HGET', slots, 'h' .. name)
  end
  seq = seq + 1
end
if seq <= head then answer[1] = whole(seq) end
return answer
