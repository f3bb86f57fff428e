-- assign: makes an attempt the vehicle's latest, with its Director state. Idempotent by attempt id.
-- KEYS[1] shard tag. ARGV: packed attempt (state OFFERED), packed Director state, expected timestamp version.
-- Reply: ok and the record's parts; refused unknown_attempt, tombstoned, attempt_live, stale_epoch (Director overtaken).
register('assign', function(keys, args)
  local tag, attempt, director = keys[1], cmsgpack.unpack(args[1]), cmsgpack.unpack(args[2])
  local id, vehicle_id = attempt[ATTEMPT.attempt_id], attempt[ATTEMPT.vehicle_id]
  local hot = load_present(tag, vehicle_id)
  if not hot then return refused('unknown_attempt', {attempt_id = id}) end
  if load_attempt(tag, id, vehicle_id, hot) then return applied(tag, vehicle_id, hot) end
  local try = find_try(tag, hot, attempt[ATTEMPT.rollout_id])
  -- Numbers only rise: one at or below the vehicle's last was resolved as lost, or overtaken.
  if try and attempt[ATTEMPT.number] <= try[2] then return refused('tombstoned', {attempt_id = id}) end
  local latest = hot[HOT.attempt_id] ~= '' and load_attempt(tag, hot[HOT.attempt_id], vehicle_id, hot)
  if latest and LIVE[latest[ATTEMPT.state]] then
    return refused('attempt_live', {attempt_id = id, live = latest[ATTEMPT.attempt_id]})
  end
  local standing = hot[HOT.director][3]
  if standing ~= tonumber(args[3]) then
    return refused('stale_epoch', {expected = args[3], standing = standing})
  end
  save(tag, 'attempts', id, attempt)
  count_standing(tag, attempt, 1)
  counted(tag, attempt[ATTEMPT.rollout_id])
  schedule(tag, attempt)
  local first = attempt[ATTEMPT.checkpoints][1]
  if first then redis.call('ZADD', tag .. KEY.due, int(attempt[ATTEMPT.granted_at] + first), 'g|' .. id) end
  note_try(tag, hot, attempt)
  hot[HOT.attempt_id] = id
  hot[HOT.director] = director
  save(tag, 'hot', vehicle_id, hot)
  local data = about(attempt)
  data.epoch = attempt[ATTEMPT.epoch]
  data.director_version = director[1]
  journal(tag .. KEY.journal, 'attempt_granted', attempt[ATTEMPT.granted_at], data)
  return applied(tag, vehicle_id, hot)
end)

-- resolve: says whether an attempt holds its slot; if it was never assigned, it never will be.
-- KEYS[1] shard tag. ARGV: attempt id, rollout id, vehicle id, number. Reply: ok, `1` or `0`.
-- The tombstone is the vehicle's try: its number rises past the lost one, so that `assign` refuses it for ever.
register('resolve', function(keys, args)
  local tag, id, rollout_id, vehicle_id, number = keys[1], args[1], args[2], args[3], tonumber(args[4])
  local attempt = load_attempt(tag, id)
  if attempt then return {'ok', LIVE[attempt[ATTEMPT.state]] and '1' or '0'} end
  local hot = load_hot(tag, vehicle_id)
  if not hot then return {'ok', '0'} end
  local try = find_try(tag, hot, rollout_id)
  if number > (try and try[2] or 0) then
    put_try(hot, {rollout_id, number, 'withdrawn', try and try[4] or 0, false, ''})
    save(tag, 'hot', vehicle_id, hot)
  end
  return {'ok', '0'}
end)
