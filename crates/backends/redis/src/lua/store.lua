-- In front of every script.

-- The server's time in ms, unless a test gives its own.
local function now(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whole numbers of more than 14 digits as text.
local function whole(number)
  return string.format('%.0f', number)
end

-- Which line of history the server is on. It is another one after a restart and after a failover, when the latest writes may be gone. '' where this user may
-- not know.
local function line()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return '' end
  return info:match('master_replid:(%x+)') or ''
end
