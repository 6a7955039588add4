-- ARGV time, a new epoch, a range: after or before a seq, newest, or span: from a seq; the seq; at most how many, or of a span the seq behind it; how many in this
-- answer, and how many bytes of data about.
-- Epoch, first, head, '1' if more is too old than was taken out, the range's first seq and the one behind its last; then the slots from its first on.
local at, log = now(ARGV[1]), open(ARGV[2])
local first = log.first
local more = expire(log, at)
if log.first ~= first then save(log) end
touch(log)

local range, seq, limit, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local behind = log.head + 1
local function clamp(number) return math.max(log.first, math.min(number, behind)) end
local from, to
if range == 'after' then
  from = clamp(seq + 1)
  to = math.min(from + limit, behind)
elseif range == 'span' then
  from, to = clamp(seq), clamp(limit)
else
  to = range == 'before' and clamp(seq) or behind
  from = clamp(to - limit)
end

local answer = { log.epoch, whole(log.first), whole(log.head), more and '1' or '0', whole(from), whole(to) }
local bytes, next_seq = 0, from
while next_seq < math.min(to, from + most) and bytes < tonumber(ARGV[7]) do
  local fields, last = {}, math.min(to, from + most, next_seq + 16)
  for one = next_seq, last - 1 do
    local name = whole(one)
    fields[#fields + 1] = 'm' .. name
    fields[#fields + 1] = 'h' .. name
    fields[#fields + 1] = 'p' .. name
  end
  local parts = redis.call('HMGET', slots, unpack(fields))
  for one = next_seq, last - 1 do
    local base = 3 * (one - next_seq)
    if not (parts[base + 1] and parts[base + 2] and parts[base + 3]) then
      -- Somebody took a part of the history away: it begins anew.
      redis.call('DEL', meta, slots, fence)
      local empty = open(ARGV[2])
      return { empty.epoch, '1', '0', '0', '1', '1' }
    end
    bytes = bytes + #parts[base + 3]
    tell(answer, one, cmsgpack.unpack(parts[base + 1]), parts[base + 2], parts[base + 3])
  end
  next_seq = last
end
return answer
