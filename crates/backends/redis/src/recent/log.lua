-- A channel's recent history. KEYS of every script:
--   meta    epoch; head and first, as in a page; bytes as retention counts them; age: bound in ms; keep: ms after the last use until all is forgotten;
--           line: the server's line of history when it was used last
--   slots   m<SEQ>: a slot, packed; h<SEQ>: its message's record without data; p<SEQ>: its data as they read now
--   fence   slots by sender and client id
-- A slot: 1 placed, 2 kind (m, s: silent, e: edit, d: deletion), 3 bytes, 4 bytes of the event's name, 5 sender, 6 client id,
--   7 what later slots made of it (- or e: edited, d: deleted), 8 the newest of those, 9 its time as text, 10 of an edit: the one of the same message before it
local meta, slots, fence = unpack(KEYS)
local NULL = '\1\4\0\0\0null'
-- Slots that are taken out in one script, at most.
local POPS = 500

-- Begins a history that is not there. On another line of history the newest messages may be gone, and others may take their seqs: what is kept goes on under
-- another epoch.
local function open(fresh)
  local known = redis.call('HMGET', meta, 'epoch', 'head', 'first', 'bytes', 'age', 'keep', 'line')
  local here = line()
  if not known[1] then
    redis.call('DEL', slots, fence)
    redis.call('HSET', meta, 'epoch', fresh, 'head', 0, 'first', 1, 'bytes', 0, 'line', here, 'keep', 86400000)
    redis.call('PEXPIRE', meta, 86400000)
    return { epoch = fresh, head = 0, first = 1, bytes = 0, age = nil, keep = 86400000 }
  end
  if known[7] ~= here then
    redis.call('HSET', meta, 'epoch', fresh, 'line', here)
    known[1] = fresh
  end
  return {
    epoch = known[1], head = tonumber(known[2]), first = tonumber(known[3]), bytes = tonumber(known[4]),
    age = known[5] and tonumber(known[5]), keep = tonumber(known[6]),
  }
end

-- What is used stays. All keys end together.
local function touch(log, anew)
  if anew or redis.call('PTTL', meta) < log.keep * 0.9 then
    redis.call('PEXPIRE', meta, whole(log.keep))
    redis.call('PEXPIRE', slots, whole(log.keep))
    redis.call('PEXPIRE', fence, whole(log.keep))
  end
end

local function load(seq)
  local packed = redis.call('HGET', slots, 'm' .. whole(seq))
  return packed and cmsgpack.unpack(packed)
end

local function store(seq, slot)
  redis.call('HSET', slots, 'm' .. whole(seq), cmsgpack.pack(slot))
end

local function name_of(slot)
  return slot[5] .. '\0' .. slot[6]
end

-- Gives a slot other data.
local function rewrite(log, seq, slot, bytes, data)
  log.bytes = log.bytes + bytes - slot[3]
  slot[3] = bytes
  store(seq, slot)
  redis.call('HSET', slots, 'p' .. whole(seq), data)
end

-- Takes out what edits of one message have said, this one and those before it.
local function silence(log, edit)
  while edit > 0 do
    local said = load(edit)
    if not said then return end
    rewrite(log, edit, said, said[4] + 4, NULL)
    edit = said[10]
  end
end

local function pop(log, slot)
  local seq = whole(log.first)
  redis.call('HDEL', slots, 'm' .. seq, 'h' .. seq, 'p' .. seq)
  if slot then
    redis.call('HDEL', fence, name_of(slot))
    log.bytes = log.bytes - slot[3]
  end
  log.first = log.first + 1
end

-- Takes out what is too old; whether more may be.
local function expire(log, at)
  if not log.age then return false end
  for _ = 1, POPS do
    if log.first >= log.head then return false end
    local slot = load(log.first)
    if slot and at - slot[1] <= log.age then return false end
    pop(log, slot)
  end
  return true
end

-- Takes out what is too much; the newest stays.
local function trim(log, count, bytes)
  for _ = 1, POPS do
    if log.first >= log.head then return end
    if log.head - log.first < count and log.bytes <= bytes then return end
    pop(log, load(log.first))
  end
end

local function save(log)
  redis.call('HSET', meta, 'head', whole(log.head), 'first', whole(log.first), 'bytes', whole(log.bytes))
end

-- How a slot reads: its seq, record, data, what became of it, by which slot, when.
local function tell(answer, seq, slot, record, data)
  for _, part in ipairs({ whole(seq), record, data, slot[7], whole(slot[8]), slot[9] }) do
    answer[#answer + 1] = part
  end
end
