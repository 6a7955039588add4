-- ARGV a user, and who nobody is; then of each slot of the user, or of the server about it: its seq, its new record, when it was sent, of an edit its target or 0.
-- How many were blanked. What was done before is done no more.
local known = redis.call('HMGET', meta, 'first', 'bytes')
if not known[1] then return 0 end
local log, count = { first = tonumber(known[1]), bytes = tonumber(known[2]) }, 0
for i = 3, #ARGV, 4 do
  local seq, target = tonumber(ARGV[i]), tonumber(ARGV[i + 3])
  local slot = seq >= log.first and load(seq)
  if slot and (slot[5] == ARGV[1] or slot[5] == '$') then
    redis.call('HDEL', fence, name_of(slot))
    if slot[2] == 'm' or slot[2] == 's' then
      if slot[7] == 'e' then silence(log, slot[8]) end
      if slot[7] == '-' then slot[8], slot[9] = seq, ARGV[i + 2] end
      slot[7] = 'd'
    elseif slot[2] == 'e' and target >= log.first then
      -- Words of the user are what another's message reads as.
      local changed = load(target)
      if changed and changed[7] == 'e' and changed[8] == seq then
        changed[7] = 'd'
        rewrite(log, target, changed, changed[4] + 4, NULL)
      end
    end
    slot[4], slot[5], slot[6] = #'message', ARGV[2], 'erased-' .. whole(seq)
    rewrite(log, seq, slot, slot[4] + 4, NULL)
    redis.call('HSET', slots, 'h' .. whole(seq), ARGV[i + 1])
    count = count + 1
  end
end
redis.call('HSET', meta, 'bytes', whole(log.bytes))
return count
