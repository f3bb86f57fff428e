-- initialise: makes the data set, or says what stands.
-- KEYS[1] fleet tag. ARGV: schema, data set id, shards. Reply: ok, schema, data set id, shards that stand now.
register('initialise', function(keys, args)
  local meta = keys[1] .. KEY.meta
  if redis.call('EXISTS', meta) == 0 then
    redis.call('HSET', meta, 'schema', args[1], 'dataset_id', args[2], 'shards', args[3])
  end
  local values = redis.call('HMGET', meta, 'schema', 'dataset_id', 'shards')
  return {'ok', values[1], values[2], values[3]}
end)

-- clock: the fleet clock; made from the arguments when there is none.
-- KEYS[1] fleet tag. ARGV: origin, scale. Reply: ok, origin, started, scale, machine time now.
register('clock', function(keys, args)
  local clock, now = keys[1] .. KEY.clock, int(machine_ms())
  if redis.call('EXISTS', clock) == 0 then
    redis.call('HSET', clock, 'origin', args[1], 'started_ms', now, 'scale', args[2])
  end
  local values = redis.call('HMGET', clock, 'origin', 'started_ms', 'scale')
  return {'ok', values[1], values[2], values[3], now}
end)

-- create_release: writes a release with its journal entry, or returns the one of that version.
-- KEYS[1] fleet tag. ARGV: version, document, journal kind, fleet time, packed journal data. Reply: ok, document.
register('create_release', function(keys, args)
  local tag = keys[1]
  if redis.call('HSETNX', tag .. KEY.releases, args[1], args[2]) == 1 then
    append(tag .. KEY.fleet_log, args[3], args[4], args[5])
  end
  return {'ok', redis.call('HGET', tag .. KEY.releases, args[1])}
end)

-- revoke: refuses a vehicle's certificates from now on; journalled the first time.
-- KEYS[1] fleet tag. ARGV: vehicle id, journal kind, fleet time, packed journal data. Reply: ok.
register('revoke', function(keys, args)
  local tag = keys[1]
  if redis.call('SADD', tag .. KEY.revoked, args[1]) == 1 then
    append(tag .. KEY.fleet_log, args[2], args[3], args[4])
  end
  return {'ok'}
end)
