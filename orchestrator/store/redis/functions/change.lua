-- permit: records a permit: PERMITTED, exposed, checkpoints due. Idempotent.
-- KEYS[1] shard tag. ARGV: attempt id, fleet time of the permit, how long an offline one is good for (0: an ordinary one),
-- whether it is compared with controls (`1` or `0`).
-- Reply: ok and the record's parts; refused unknown_attempt, attempt_over, wrong_state.
register('permit', function(keys, args)
  local tag, id, permitted_at = keys[1], args[1], tonumber(args[2])
  local attempt = load_attempt(tag, id)
  if not attempt then return refused('unknown_attempt', {attempt_id = id}) end
  local vehicle_id, state = attempt[ATTEMPT.vehicle_id], attempt[ATTEMPT.state]
  local hot = load_hot(tag, vehicle_id)
  if not attempt[ATTEMPT.permitted_at] then
    if not LIVE[state] then return refused('attempt_over', {attempt_id = id, state = state}) end
    attempt[ATTEMPT.offline] = tonumber(args[3])
    attempt[ATTEMPT.paired] = args[4] == '1'
    if not advance(tag, hot, attempt, 'permit_issued', permitted_at, '') then
      return refused('wrong_state', {attempt_id = id, state = state})
    end
    save(tag, 'hot', vehicle_id, hot)
  end
  return applied(tag, vehicle_id, hot)
end)

-- change: one event of the orchestrator's own on one attempt; an illegal one changes nothing.
-- KEYS[1] shard tag. ARGV: attempt id, event, fleet time now, failure code. Reply: ok and the record's parts, or unknown.
register('change', function(keys, args)
  local tag, attempt = keys[1], load_attempt(keys[1], args[1])
  if not attempt then return {'unknown'} end
  local vehicle_id = attempt[ATTEMPT.vehicle_id]
  local hot = load_hot(tag, vehicle_id)
  if advance(tag, hot, attempt, args[2], tonumber(args[3]), args[4]) then save(tag, 'hot', vehicle_id, hot) end
  return applied(tag, vehicle_id, hot)
end)

-- attest: records a verified manifest and tells the attempt what it proves. Idempotent by digest.
-- KEYS[1] shard tag. ARGV: vehicle id, sha256, counter, installed release, attempt id, event (both empty when none),
-- fleet time now, manifest bytes. Reply: ok and the record's parts; refused stale_epoch (a replay); unknown.
register('attest', function(keys, args)
  local tag, vehicle_id, sha256, counter, installed = keys[1], args[1], args[2], tonumber(args[3]), args[4]
  local now = tonumber(args[7])
  local hot = load_present(tag, vehicle_id)
  if not hot then return {'unknown'} end
  if hot[HOT.manifest_sha256] == sha256 then return applied(tag, vehicle_id, hot) end
  if counter <= hot[HOT.manifest_counter] then
    return refused('stale_epoch', {counter = counter, held = hot[HOT.manifest_counter]})
  end
  if installed ~= hot[HOT.installed] then
    local inventory = redis.call('HGET', tag .. KEY.inventory, vehicle_id)
    leave_profile(tag, profile_of(tag, inventory, hot[HOT.installed]), {vehicle_id})
    join_profile(tag, profile_of(tag, inventory, installed), {vehicle_id})
  end
  hot[HOT.manifest_sha256] = sha256
  hot[HOT.manifest_counter] = counter
  hot[HOT.installed] = installed
  local data = {vehicle_id = vehicle_id, sha256 = sha256, counter = counter, installed = installed}
  local attempt = args[5] ~= '' and load_attempt(tag, args[5], vehicle_id, hot)
  if attempt and attempt[ATTEMPT.vehicle_id] == vehicle_id then
    data.rollout_id = attempt[ATTEMPT.rollout_id]
    data.attempt_id = args[5]
  end
  journal(tag .. KEY.journal, 'manifest_accepted', now, data, args[8])
  if data.attempt_id and args[6] ~= '' then advance(tag, hot, attempt, args[6], now, '') end
  return applied(tag, vehicle_id, hot, save(tag, 'hot', vehicle_id, hot))
end)

-- direct: replaces the vehicle's Director state if the held timestamp version is the expected one.
-- KEYS[1] shard tag. ARGV: vehicle id, packed Director state, expected timestamp version. Reply: ok, `1` or `0`.
register('direct', function(keys, args)
  local hot = load_present(keys[1], args[1])
  if not hot or hot[HOT.director][3] ~= tonumber(args[3]) then return {'ok', '0'} end
  hot[HOT.director] = cmsgpack.unpack(args[2])
  save(keys[1], 'hot', args[1], hot)
  return {'ok', '1'}
end)
