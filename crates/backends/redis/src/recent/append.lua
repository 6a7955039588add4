-- ARGV time, a new epoch, bounds: messages, bytes, age in ms; how long to keep it unused, in ms; then of each draft: kind, target, '1' if it moderates, sender,
-- client id, bytes, bytes of the event's name, time, record, data.
-- The epoch, then for each draft: {'placed', seq}, {'missing'}, {'others'}, or a slot as it reads now for a retry.
local at, log = now(ARGV[1]), open(ARGV[2])
local before = log.head
-- Twice: what was too old until now stays so.
expire(log, at)
log.age, log.keep = tonumber(ARGV[5]), tonumber(ARGV[6])
expire(log, at)

local function check(target, user, moderates)
  local slot = target >= log.first and target <= log.head and load(target)
  if not slot or (slot[2] ~= 'm' and slot[2] ~= 's') or slot[7] == 'd' then return 'missing' end
  if not moderates and slot[5] ~= user then return 'others' end
end

-- From now on the target reads as the draft in slot `seq` makes it. The edit before it, or 0.
local function fold(target, seq, deletes, bytes, time, data)
  local slot = load(target)
  local last = slot[7] == 'e' and slot[8] or 0
  if deletes then
    silence(log, last)
    bytes, data = 4, NULL
  end
  slot[7], slot[8], slot[9] = deletes and 'd' or 'e', seq, time
  rewrite(log, target, slot, slot[4] + bytes, data)
  return last
end

local answer = { log.epoch }
for i = 7, #ARGV, 10 do
  local kind, target, user, id = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 3], ARGV[i + 4]
  local bytes, event = tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6])
  local changes = kind == 'e' or kind == 'd'
  local known = tonumber(redis.call('HGET', fence, user .. '\0' .. id) or 0)
  local one = {}
  if known > 0 then
    local parts = redis.call('HMGET', slots, 'h' .. whole(known), 'p' .. whole(known))
    tell(one, known, load(known), parts[1], parts[2])
  else
    local refused = changes and check(target, user, ARGV[i + 2] == '1')
    if refused then
      one[1] = refused
    else
      local seq, last = log.head + 1, 0
      if changes then last = fold(target, seq, kind == 'd', bytes - event, ARGV[i + 7], ARGV[i + 9]) end
      store(seq, { at, kind, bytes, event, user, id, '-', 0, '0', last })
      redis.call('HSET', slots, 'h' .. whole(seq), ARGV[i + 8], 'p' .. whole(seq), ARGV[i + 9])
      redis.call('HSET', fence, user .. '\0' .. id, whole(seq))
      log.head, log.bytes = seq, log.bytes + bytes
      one[1], one[2] = 'placed', whole(seq)
    end
  end
  answer[#answer + 1] = one
end
trim(log, tonumber(ARGV[3]), tonumber(ARGV[4]))
redis.call('HSET', meta, 'age', ARGV[5], 'keep', ARGV[6])
save(log)
touch(log, before == 0)
return answer
