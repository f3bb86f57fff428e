local function write_rollout(tag, document, status, epoch, fence)
  redis.call('HSET', tag .. KEY.rollout, 'document', document, 'status', status, 'epoch', epoch, 'fence', fence)
end

-- create_rollout: writes a new rollout with its journal entry, or returns the one that stands.
-- KEYS[1] rollout tag. ARGV: document, status, epoch, fence, journal kind, fleet time, packed journal data.
-- Reply: ok, document that stands now.
register('create_rollout', function(keys, args)
  local tag = keys[1]
  local standing = redis.call('HGET', tag .. KEY.rollout, 'document')
  if standing then return {'ok', standing} end
  write_rollout(tag, args[1], args[2], args[3], args[4])
  append(tag .. KEY.log, args[5], args[6], args[7])
  return {'ok', args[1]}
end)

-- transition: replaces the rollout if its epoch is the expected one.
-- KEYS[1] rollout tag. ARGV: document, status, epoch, fence, journal kind, fleet time, packed journal data, expected epoch.
-- Reply: ok, `1` or `0`.
register('transition', function(keys, args)
  local tag = keys[1]
  if redis.call('HGET', tag .. KEY.rollout, 'epoch') ~= args[8] then return {'ok', '0'} end
  write_rollout(tag, args[1], args[2], args[3], args[4])
  append(tag .. KEY.log, args[5], args[6], args[7])
  return {'ok', '1'}
end)

-- renew: the evaluator's sign of life and the permit ceiling, as of the begin of its tick. Refused to one that looked
-- earlier than the last, or at another epoch. A rollout that does not exist stays so.
-- KEYS[1] rollout tag. ARGV: life in ms of machine time, ceiling, machine time at the begin of the tick, epoch.
-- Reply: ok, `1` or `0`.
register('renew', function(keys, args)
  local tag, began, now = keys[1], tonumber(args[3]), machine_ms()
  local held = redis.call('HMGET', tag .. KEY.rollout, 'epoch', 'began_ms')
  if held[1] ~= args[4] or began > now then return {'ok', '0'} end
  local last = tonumber(held[2]) or 0
  -- A last begin that is still to come was written before the clock was set back; it must not lock everybody out.
  if began < last and last <= now then return {'ok', '0'} end
  redis.call('HSET', tag .. KEY.rollout, 'alive_until', int(began + tonumber(args[1])), 'began_ms', args[3], 'ceiling',
    args[2])
  return {'ok', '1'}
end)

-- standing: how far the limits are used, as `reserve` and `authorize` would count them now.
-- KEYS[1] rollout tag. ARGV: fleet time now, dead-man life in ms.
-- Reply: ok, permits, ceiling, starts in the last minute, `1` or `0` for alive, then region and slots held of each.
register('standing', function(keys, args)
  local tag = keys[1]
  local rollout = control(tag)
  local starts = redis.call('ZCOUNT', tag .. KEY.starts, '(' .. int(tonumber(args[1]) - MINUTE_MS), '+inf')
  local reply = {'ok', int(redis.call('HLEN', tag .. KEY.permits)), int(rollout.ceiling), int(starts),
    alive(rollout, machine_ms(), args[2]) and '1' or '0'}
  local held = redis.call('HGETALL', tag .. KEY.in_flight)
  for index = 1, #held, 2 do
    if held[index] ~= '*' then
      reply[#reply + 1] = held[index]
      reply[#reply + 1] = held[index + 1]
    end
  end
  return reply
end, true)
