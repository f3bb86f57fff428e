-- Writes a rollout, with its brakes and fences on parts, and what is judged apart, as fields of their own: those of the
-- one before go.
local function write_rollout(tag, args)
  local name = tag .. KEY.rollout
  for _, field in ipairs(redis.call('HKEYS', name)) do
    local kind = string.match(field, '^(%a+):')
    if kind == 'brake' or kind == 'fence' or kind == 'apart' then redis.call('HDEL', name, field) end
  end
  redis.call('HSET', name, 'document', args[1], 'status', args[2], 'epoch', args[3], 'fence', args[4])
  for field, value in pairs(cmsgpack.unpack(args[5])) do redis.call('HSET', name, field, value) end
  append(tag .. KEY.log, args[6], args[7], args[8])
end

-- create_rollout: writes a new rollout with its journal entry, or returns the one that stands.
-- KEYS[1] rollout tag. ARGV: document, status, epoch, fence, packed map of `brake:<scope>`, `fence:<scope>`, `apart:<scope>`, journal
-- kind, fleet time, packed journal data.
-- Reply: ok, document that stands now.
register('create_rollout', function(keys, args)
  local tag = keys[1]
  local standing = redis.call('HGET', tag .. KEY.rollout, 'document')
  if standing then return {'ok', standing} end
  write_rollout(tag, args)
  return {'ok', args[1]}
end)

-- transition: replaces the rollout if its epoch is the expected one.
-- KEYS[1] rollout tag. ARGV: as create_rollout, then expected epoch.
-- Reply: ok, `1` or `0`.
register('transition', function(keys, args)
  local tag = keys[1]
  if redis.call('HGET', tag .. KEY.rollout, 'epoch') ~= args[9] then return {'ok', '0'} end
  write_rollout(tag, args)
  return {'ok', '1'}
end)

-- renew: the evaluator's sign of life and the ceilings, as of the begin of its tick. Refused to one that looked earlier
-- than the last, or at another epoch. A rollout that does not exist stays so.
-- KEYS[1] rollout tag. ARGV: life in ms of machine time, ceiling of permits, ceiling of slots without one, machine time
-- at the begin of the tick, epoch.
-- Reply: ok, `1` or `0`.
register('renew', function(keys, args)
  local tag, began, now = keys[1], tonumber(args[4]), machine_ms()
  local held = redis.call('HMGET', tag .. KEY.rollout, 'epoch', 'began_ms')
  if held[1] ~= args[5] or began > now then return {'ok', '0'} end
  local last = tonumber(held[2]) or 0
  -- A last begin that is still to come was written before the clock was set back; it must not lock everybody out.
  if began < last and last <= now then return {'ok', '0'} end
  redis.call('HSET', tag .. KEY.rollout, 'alive_until', int(began + tonumber(args[1])), 'began_ms', args[4],
    'ceiling', args[2], 'grant_ceiling', args[3])
  return {'ok', '1'}
end)

-- standing: how far the limits are used, as `reserve` and `authorize` would count them now.
-- KEYS[1] rollout tag. ARGV: fleet time now, dead-man life in ms.
-- Reply: ok, permits, ceiling, starts in the last minute, `1` or `0` for alive, slots without a permit, their ceiling,
-- array of region and slots held of each, array of cell and admitted of each, permits that may still be used, fleet time
-- at which the last of them lapses (0: there are none).
register('standing', function(keys, args)
  local tag = keys[1]
  local rollout, in_flight = control(tag), redis.call('HGETALL', tag .. KEY.in_flight)
  local starts = redis.call('ZCOUNT', tag .. KEY.starts, '(' .. int(tonumber(args[1]) - MINUTE_MS), '+inf')
  local at_risk, regions = '0', {}
  local last = redis.call('ZRANGE', tag .. KEY.outstanding, '+inf', '(' .. args[1], 'BYSCORE', 'REV', 'LIMIT', '0', '1',
    'WITHSCORES')
  for index = 1, #in_flight, 2 do
    local name, held = in_flight[index], in_flight[index + 1]
    if name == AT_RISK then
      at_risk = held
    elseif name ~= ALL then
      regions[#regions + 1] = name
      regions[#regions + 1] = held
    end
  end
  return {'ok', int(count_permits(tag)), int(rollout.ceiling), int(starts),
    alive(rollout, machine_ms(), args[2]) and '1' or '0', at_risk, int(rollout.grant_ceiling), regions,
    redis.call('HGETALL', tag .. KEY.admitted), int(redis.call('ZCOUNT', tag .. KEY.outstanding, '(' .. args[1], '+inf')),
    last[2] or '0'}
end, true)
