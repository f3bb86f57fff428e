-- What the functions share. Everything here works on the keys of one tag, `tag`, which is KEYS[1] of the caller.
-- Replies are arrays of strings: first `ok`, `refused` (then reason, then name and value of each fact) or `unknown`.
-- The tables KEY, SHAPE, HOT, ATTEMPT, CASE, CONTROL, LIVE, BEFORE_PERMIT, NEXT, CAUSE, FAILED, OWN_WORD,
-- REFUSED_BY_STATUS, REFUSED_BY_BRAKE and BRAKE_RANK and the constants are rendered in front of this file.

-- Registers one function under its public name; `reads` marks one that writes nothing.
local function register(name, callback, reads)
  redis.register_function{
    function_name = PREFIX .. name,
    callback = callback,
    flags = reads and {'no-writes'} or {},
  }
end

-- Whole numbers, written without an exponent however large.
local function int(number)
  return string.format('%.0f', number)
end

-- Machine time in milliseconds since the epoch.
local function machine_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function refused(reason, facts)
  local reply = {'refused', reason}
  for name, value in pairs(facts) do
    reply[#reply + 1] = name
    reply[#reply + 1] = type(value) == 'number' and int(value) or value
  end
  return reply
end

-- Appends an entry with data already packed to a stream; `blob` may be nil.
local function append(stream, kind, at, packed, blob)
  if blob then return redis.call('XADD', stream, '*', 'k', kind, 't', at, 'd', packed, 'b', blob) end
  return redis.call('XADD', stream, '*', 'k', kind, 't', at, 'd', packed)
end

local function journal(stream, kind, at, data, blob)
  return append(stream, kind, int(at), cmsgpack.pack(data), blob)
end

-- A record of a hash and how it is packed, or nil.
local function load(tag, name, member, fields)
  local packed = redis.call('HGET', tag .. KEY[name], member)
  if not packed then return nil end
  local record = cmsgpack.unpack(packed)
  if not READABLE[record[fields.schema]] then
    error('record ' .. member .. ' has schema ' .. tostring(record[fields.schema]) .. ', this library reads ' .. SCHEMA)
  end
  return record, packed
end

-- While somebody counts the records of a shard, notes which of them changed; see `verify.lua`.
local function note_change(tag, name, member)
  if redis.call('EXISTS', tag .. KEY.touched) == 1 then redis.call('SADD', tag .. KEY.touched, name .. '|' .. member) end
end

-- The one way in which a record that is counted is written, and `drop` the one in which it goes.
local function put(tag, name, member, packed)
  redis.call('HSET', tag .. KEY[name], member, packed)
  note_change(tag, name, member)
end

-- The same of a record that is not packed yet; how it is.
local function save(tag, name, member, record)
  local packed = cmsgpack.pack(record)
  put(tag, name, member, packed)
  return packed
end

local function drop(tag, name, member)
  redis.call('HDEL', tag .. KEY[name], member)
  note_change(tag, name, member)
end
