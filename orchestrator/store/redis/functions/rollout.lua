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

-- renew: the evaluator's sign of life and the permit ceiling. A rollout that does not exist stays so.
-- KEYS[1] rollout tag. ARGV: life in ms of machine time, ceiling. Reply: ok.
register('renew', function(keys, args)
  local tag = keys[1]
  if redis.call('EXISTS', tag .. KEY.rollout) == 0 then return {'ok'} end
  redis.call('HSET', tag .. KEY.rollout, 'alive_until', int(machine_ms() + tonumber(args[1])), 'ceiling', args[2])
  return {'ok'}
end)
