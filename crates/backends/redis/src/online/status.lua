-- KEYS users; ARGV names. Of each: the state as told, when it went (-1: it is there; -2: unknown), then of each device its name
-- and the best state of its connections.
local answer = {}
for i, name in ipairs(ARGV) do
  local stay = stay_of(KEYS[1], name)
  local one = { 0, '-2' }
  if stay then
    one[1], one[2] = stay[3], stay[4] and whole(stay[4]) or '-1'
    for device, counts in pairs(stay[5]) do
      one[#one + 1] = device
      one[#one + 1] = counts[2] > 0 and 2 or 1
    end
  end
  answer[i] = one
end
return answer
