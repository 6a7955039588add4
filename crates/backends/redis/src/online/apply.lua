-- KEYS memo, nodes, mine, leaving, users; ARGV time, call, node, lease in ms, ms since 1970, then of each movement: user, verb, device, from, to.
--   move   from one state (0: none) to another one (0: none)
--   set    the node has `to` connections of the state `from`
-- For each movement that made a transition: its number from 0, the new state.
local memo, nodes, mine, leaving, users = unpack(KEYS)
local known = recall(memo, ARGV[2])
if known then return known end

local at, wall, answer = now(ARGV[1]), tonumber(ARGV[5]), {}
for i = 6, #ARGV, 5 do
  local name, verb, device = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local from, to = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local held = 0
  if from > 0 then
    held = tonumber(redis.call('HGET', mine, name .. '\0' .. from .. '\0' .. device) or 0)
  end
  local stay, changed = stay_of(users, name), false
  if verb == 'set' then
    if to ~= held then
      stay = stay or { 0, 0, 0, false, {} }
      add(mine, name, stay, from, device, to - held)
      changed = true
    end
  elseif (from == 0 and to > 0) or held > 0 then
    stay = stay or { 0, 0, 0, false, {} }
    if from > 0 then add(mine, name, stay, from, device, -1) end
    if to > 0 then add(mine, name, stay, to, device, 1) end
    changed = true
  end
  if changed then
    local state = settle(leaving, name, stay, at, wall)
    keep(users, name, stay)
    if state then
      answer[#answer + 1] = (i - 6) / 5
      answer[#answer + 1] = state
    end
  end
end
enrol(nodes, ARGV[3], at, ARGV[4])
return remember(memo, ARGV[2], answer)
