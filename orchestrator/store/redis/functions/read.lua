-- vehicle: all that is hot about one vehicle.
-- KEYS[1] shard tag. ARGV: vehicle id. Reply: ok, the id and the record's six parts, or unknown.
register('vehicle', function(keys, args)
  local hot, packed = load_present(keys[1], args[1])
  if not hot then return {'unknown'} end
  return applied(keys[1], args[1], hot, packed)
end, true)

-- attempts: every attempt of a vehicle, packed, in no order.
-- KEYS[1] shard tag. ARGV: vehicle id. Reply: ok and one string an attempt.
register('attempts', function(keys, args)
  local tag, vehicle_id, reply = keys[1], args[1], {'ok'}
  local hot = load_hot(tag, vehicle_id)
  local last = {}
  for _, ended in ipairs(hot and hot[HOT.ended] or {}) do
    local attempt = expand(load_frame(tag, ended[ENDED.frame]), vehicle_id, ended)
    local rollout_id = attempt[ATTEMPT.rollout_id]
    last[rollout_id] = math.max(last[rollout_id] or 0, attempt[ATTEMPT.number])
    reply[#reply + 1] = cmsgpack.pack(attempt)
  end
  for _, try in ipairs(hot and hot[HOT.tries] or {}) do last[try[1]] = math.max(last[try[1]] or 0, try[2]) end
  for rollout_id, most in pairs(last) do
    for number = 1, most do
      -- A number without a record is one that `hot` has, or that was given up as lost.
      local packed = redis.call('HGET', tag .. KEY.attempts, rollout_id .. '.' .. vehicle_id .. '.' .. int(number))
      if packed then reply[#reply + 1] = packed end
    end
  end
  return reply
end, true)

-- tally: what one shard counts: open cases, and what changed after a change number: profiles, counters of rollouts.
-- KEYS[1] shard tag. ARGV: change number that the caller has seen, 0: none; most rollouts that are told, those that
-- changed first before others.
-- Reply: ok, change number up to which it is told: now, unless there were as many as that; array of profile, count, ...
-- or empty text: as they were, array of rollout id, open cases, ..., then rollout id and array of field, count, ... of
-- each.
register('tally', function(keys, args)
  local tag, since, most = keys[1], tonumber(args[1]), tonumber(args[2])
  local changes = redis.call('MGET', tag .. KEY.change, tag .. KEY.profiles_change)
  local anew = since == 0 or (tonumber(changes[2]) or 0) > since
  local reply = {
    'ok', changes[1] or '0', anew and redis.call('HGETALL', tag .. KEY.profiles) or '',
    redis.call('HGETALL', tag .. KEY.open_cases),
  }
  local changed = redis.call('ZRANGE', tag .. KEY.changed, '(' .. args[1], '+inf', 'BYSCORE', 'LIMIT', 0, most)
  if #changed == most then reply[2] = redis.call('ZSCORE', tag .. KEY.changed, changed[most]) end
  for _, rollout_id in ipairs(changed) do
    reply[#reply + 1] = rollout_id
    reply[#reply + 1] = redis.call('HGETALL', tag .. KEY.count .. rollout_id)
  end
  return reply
end, true)

-- journal_beyond: entries of one stream after a position, and whether the entry at it is still there.
-- KEYS[1] tag. ARGV: suffix of the stream, position or empty, most entries.
-- Reply: ok, 1 if it is there (or empty), entries as XRANGE gives them.
register('journal_beyond', function(keys, args)
  local stream, mark, most = keys[1] .. args[1], args[2], tonumber(args[3])
  if mark == '' then return {'ok', '1', redis.call('XRANGE', stream, '-', '+', 'COUNT', most)} end
  local entries = redis.call('XRANGE', stream, mark, '+', 'COUNT', most + 1)
  local stands = entries[1] ~= nil and entries[1][1] == mark
  if stands then table.remove(entries, 1) else entries[most + 1] = nil end
  return {'ok', stands and '1' or '0', entries}
end, true)
