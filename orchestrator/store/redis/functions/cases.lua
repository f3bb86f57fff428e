-- Cases of one shard: they follow their attempts; people settle them too.

-- Adds to the open cases of the attempt's rollout.
local function count_case(tag, attempt, amount)
  local rollout_id = attempt[ATTEMPT.rollout_id]
  if redis.call('HINCRBY', tag .. KEY.open_cases, rollout_id, amount) <= 0 then
    redis.call('HDEL', tag .. KEY.open_cases, rollout_id)
  end
end

-- Whether the attempt ever had a case.
local function has_case(tag, attempt_id)
  return redis.call('HEXISTS', tag .. KEY.cases, attempt_id) == 1
    or redis.call('HEXISTS', tag .. KEY.settled_cases, attempt_id) == 1
end

local function open_case(tag, attempt, cause, detail, now)
  local id = attempt[ATTEMPT.attempt_id]
  local case = load(tag, 'cases', id, CASE)
  local kind = 'case_changed'
  if not case then
    kind = 'case_opened'
    drop(tag, 'settled_cases', id)
    count_case(tag, attempt, 1)
    case = {SCHEMA, id, attempt[ATTEMPT.rollout_id], attempt[ATTEMPT.vehicle_id], attempt[ATTEMPT.region],
      attempt[ATTEMPT.hardware], attempt[ATTEMPT.cohort], '', '', now, false, '', '', ''}
  end
  case[CASE.cause] = cause
  case[CASE.detail] = detail
  case[CASE.attempt_state] = attempt[ATTEMPT.state]
  save(tag, 'cases', id, case)
  local data = about(attempt)
  data.cause = cause
  data.detail = detail
  journal(tag .. KEY.journal, kind, now, data)
end

-- Takes a case from the open to the settled ones.
local function settle_case(tag, attempt, case, now)
  local id = attempt[ATTEMPT.attempt_id]
  case[CASE.settled_at] = now
  save(tag, 'settled_cases', id, case)
  drop(tag, 'cases', id)
  count_case(tag, attempt, -1)
end

-- Whether a state says nothing that the person who closed the attempt's case did not know: time ran out, that is all.
local function known_when_closed(settled, state)
  return settled and settled[CASE.closed_by] ~= '' and state == 'timed_out'
end

-- Causes that stand whatever becomes of the update.
local STANDING = {diagnosis = true, repeated = true}

-- A case follows its attempt: opened or changed by a state that hurts, settled by a terminal one that does not, unless
-- it stands for something else.
local function follow_case(tag, attempt, from, now)
  local id, state = attempt[ATTEMPT.attempt_id], attempt[ATTEMPT.state]
  local case = load(tag, 'cases', id, CASE)
  local settled = not case and load(tag, 'settled_cases', id, CASE)
  local cause = attempt[ATTEMPT.permitted_at] and CAUSE[state]
  if cause and not known_when_closed(settled, state) then
    local detail = attempt[ATTEMPT.failure_code]
    open_case(tag, attempt, cause, detail ~= '' and detail or 'in ' .. from, now)
    return
  end
  if settled then
    settled[CASE.attempt_state] = state
    save(tag, 'settled_cases', id, settled)
  end
  if not case then return end
  case[CASE.attempt_state] = state
  if LIVE[state] or STANDING[case[CASE.cause]] then
    save(tag, 'cases', id, case)
    return
  end
  settle_case(tag, attempt, case, now)
  local data = about(attempt)
  data.cause = case[CASE.cause]
  data.state = state
  journal(tag .. KEY.journal, 'case_settled', now, data)
end

-- diagnose: marks an exposed attempt as diagnosed, and opens a case `diagnosis` if it never had one.
-- KEYS[1] shard tag. ARGV: attempt id, detail, fleet time now. Reply: ok, `1` or `0`.
register('diagnose', function(keys, args)
  local tag, id = keys[1], args[1]
  local attempt = load_attempt(tag, id)
  if not attempt or not attempt[ATTEMPT.permitted_at] then return {'ok', '0'} end
  if not attempt[ATTEMPT.diagnosed] then
    count_standing(tag, attempt, -1)
    attempt[ATTEMPT.diagnosed] = true
    count_standing(tag, attempt, 1)
    counted(tag, attempt[ATTEMPT.rollout_id])
    keep_attempt(tag, attempt)
  end
  if has_case(tag, id) then return {'ok', '0'} end
  open_case(tag, attempt, 'diagnosis', args[2], tonumber(args[3]))
  return {'ok', '1'}
end)

-- close_case: a person settles an open case; a settled one stays as it is.
-- KEYS[1] shard tag. ARGV: attempt id, actor, reason, fleet time now. Reply: ok and the case, or unknown.
register('close_case', function(keys, args)
  local tag, id = keys[1], args[1]
  local case, attempt = load(tag, 'cases', id, CASE), load_attempt(tag, id)
  if case then
    case[CASE.closed_by] = args[2]
    case[CASE.close_reason] = args[3]
    settle_case(tag, attempt, case, tonumber(args[4]))
    local data = about(attempt)
    data.cause = case[CASE.cause]
    data.state = attempt[ATTEMPT.state]
    data.actor = args[2]
    data.reason = args[3]
    journal(tag .. KEY.journal, 'case_closed', tonumber(args[4]), data)
  end
  local packed = redis.call('HGET', tag .. KEY.settled_cases, id)
  return packed and {'ok', packed} or {'unknown'}
end)

-- case: the case of one attempt, open or settled.
-- KEYS[1] shard tag. ARGV: attempt id. Reply: ok and the case, or unknown.
register('case', function(keys, args)
  local packed = redis.call('HGET', keys[1] .. KEY.cases, args[1])
    or redis.call('HGET', keys[1] .. KEY.settled_cases, args[1])
  return packed and {'ok', packed} or {'unknown'}
end, true)

-- cases: the open cases, and the settled ones if asked, packed, in no order.
-- KEYS[1] shard tag. ARGV: `1` for the settled ones too. Reply: ok and one string a case.
register('cases', function(keys, args)
  local tag, reply = keys[1], {'ok'}
  for _, packed in ipairs(redis.call('HVALS', tag .. KEY.cases)) do reply[#reply + 1] = packed end
  if args[1] == '1' then
    for _, packed in ipairs(redis.call('HVALS', tag .. KEY.settled_cases)) do reply[#reply + 1] = packed end
  end
  return reply
end, true)
