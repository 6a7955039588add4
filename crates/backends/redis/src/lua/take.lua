-- KEYS when the bucket will be full, in thousandths of a ms; ARGV time, what is taken and what the bucket holds, each as the time that it takes to come back, in
-- thousandths of a ms. 0, or after how many ms. (GCRA: ATM Forum, Traffic Management 4.0.)
local at = now(ARGV[1]) * 1000
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), at) + ARGV[2]
local wait = full - ARGV[3] - at
if wait > 0 then return math.ceil(wait / 1000) end
-- One that is full needs no memory.
if full > at then redis.call('SET', KEYS[1], whole(full), 'PX', whole(math.ceil((full - at) / 1000))) end
return 0
