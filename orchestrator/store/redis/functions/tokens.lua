-- put_token: keeps an enrolment token's hash; replaces an earlier one.
-- KEYS[1] shard tag. ARGV: vehicle id, token SHA-256, life in ms of machine time. Reply: ok.
register('put_token', function(keys, args)
  local token = keys[1] .. KEY.token .. args[1]
  redis.call('DEL', token)
  redis.call('HSET', token, 'token', args[2])
  redis.call('PEXPIRE', token, args[3])
  return {'ok'}
end)

-- take_token: spends a token for one certificate request and marks the vehicle enrolled.
-- KEYS[1] shard tag. ARGV: vehicle id, token SHA-256, request SHA-256. Reply: ok, `1` or `0`.
-- The token keeps its life after it was spent, so that the same request may be repeated.
register('take_token', function(keys, args)
  local tag, vehicle_id = keys[1], args[1]
  local token = tag .. KEY.token .. vehicle_id
  local held = redis.call('HMGET', token, 'token', 'request')
  local hot = load_present(tag, vehicle_id)
  if not hot or held[1] ~= args[2] then return {'ok', '0'} end
  if held[2] then return {'ok', held[2] == args[3] and '1' or '0'} end
  redis.call('HSET', token, 'request', args[3])
  hot[HOT.enrolled] = true
  save(tag, 'hot', vehicle_id, hot)
  return {'ok', '1'}
end)
