-- Vehicles and attempts of one shard, as the functions below change them: records, counters, due set, cases, journal.

local function load(tag, name, member, fields)
  local packed = redis.call('HGET', tag .. KEY[name], member)
  if not packed then return nil end
  local record = cmsgpack.unpack(packed)
  if record[fields.schema] ~= SCHEMA then
    error('record ' .. member .. ' has schema ' .. tostring(record[fields.schema]) .. ', this library reads ' .. SCHEMA)
  end
  return record
end

local function save(tag, name, member, record)
  redis.call('HSET', tag .. KEY[name], member, cmsgpack.pack(record))
end

local function load_hot(tag, vehicle_id)
  return load(tag, 'hot', vehicle_id, HOT)
end

local function load_attempt(tag, attempt_id)
  return load(tag, 'attempts', attempt_id, ATTEMPT)
end

-- The four parts of a vehicle's record, packed: inventory, hot, latest attempt, last seen; the last two may be empty.
local function vehicle_parts(tag, vehicle_id, hot)
  local attempt = hot[HOT.attempt_id] ~= '' and redis.call('HGET', tag .. KEY.attempts, hot[HOT.attempt_id])
  return redis.call('HGET', tag .. KEY.inventory, vehicle_id), cmsgpack.pack(hot), attempt or '',
    redis.call('HGET', tag .. KEY.seen, vehicle_id) or ''
end

local function applied(tag, vehicle_id, hot)
  return {'ok', vehicle_parts(tag, vehicle_id, hot)}
end

-- Adds to one counter of the attempt's rollout.
local function count(tag, attempt, suffix, amount)
  local cell = attempt[ATTEMPT.region] .. '|' .. attempt[ATTEMPT.hardware] .. '|' .. attempt[ATTEMPT.cohort]
  redis.call('HINCRBY', tag .. KEY.count .. attempt[ATTEMPT.rollout_id], cell .. '|' .. suffix, amount)
end

-- Notes that counters of the attempt's rollout changed, so that `tally` returns them.
local function counted(tag, attempt)
  redis.call('ZADD', tag .. KEY.changed, redis.call('INCR', tag .. KEY.change), attempt[ATTEMPT.rollout_id])
end

local function state_counter(attempt)
  return (attempt[ATTEMPT.permitted_at] and 'p|' or 'b|') .. attempt[ATTEMPT.state]
end

-- What every journal entry about an attempt says.
local function about(attempt)
  return {
    rollout_id = attempt[ATTEMPT.rollout_id],
    vehicle_id = attempt[ATTEMPT.vehicle_id],
    attempt_id = attempt[ATTEMPT.attempt_id],
    number = attempt[ATTEMPT.number],
    release = attempt[ATTEMPT.release],
    region = attempt[ATTEMPT.region],
    hardware = attempt[ATTEMPT.hardware],
    cohort = attempt[ATTEMPT.cohort],
    exposed = attempt[ATTEMPT.permitted_at] and true or false,
  }
end

local function find_try(hot, rollout_id)
  for _, try in ipairs(hot[HOT.tries]) do
    if try[1] == rollout_id then return try end
  end
  return nil
end

-- Keeps what the vehicle's record says of its latest attempt at the rollout.
local function note_try(hot, attempt)
  local try = find_try(hot, attempt[ATTEMPT.rollout_id])
  if not try then
    try = {attempt[ATTEMPT.rollout_id], 0, '', 0, false}
    table.insert(hot[HOT.tries], try)
  end
  if attempt[ATTEMPT.number] < try[2] then return end
  try[2] = attempt[ATTEMPT.number]
  try[3] = attempt[ATTEMPT.state]
  try[4] = attempt[ATTEMPT.state_at]
  try[5] = attempt[ATTEMPT.permitted_at] and true or false
end

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
    redis.call('HDEL', tag .. KEY.settled_cases, id)
    count_case(tag, attempt, 1)
    case = {SCHEMA, id, attempt[ATTEMPT.rollout_id], attempt[ATTEMPT.vehicle_id], attempt[ATTEMPT.region],
      attempt[ATTEMPT.hardware], attempt[ATTEMPT.cohort], '', '', now, false, ''}
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

-- A case follows its attempt: opened or changed by a state that hurts, settled by a terminal one that does not.
local function follow_case(tag, attempt, from, now)
  local state = attempt[ATTEMPT.state]
  local cause = attempt[ATTEMPT.permitted_at] and CAUSE[state]
  if cause then
    local detail = attempt[ATTEMPT.failure_code]
    open_case(tag, attempt, cause, detail ~= '' and detail or 'in ' .. from, now)
    return
  end
  local id = attempt[ATTEMPT.attempt_id]
  local case = load(tag, 'cases', id, CASE)
  if not case then return end
  case[CASE.attempt_state] = state
  if LIVE[state] then
    save(tag, 'cases', id, case)
    return
  end
  case[CASE.settled_at] = now
  save(tag, 'settled_cases', id, case)
  redis.call('HDEL', tag .. KEY.cases, id)
  count_case(tag, attempt, -1)
  local data = about(attempt)
  data.cause = case[CASE.cause]
  data.state = state
  journal(tag .. KEY.journal, 'case_settled', now, data)
end

local function schedule(tag, attempt)
  local member = 'd|' .. attempt[ATTEMPT.attempt_id]
  if attempt[ATTEMPT.deadline_at] then
    redis.call('ZADD', tag .. KEY.due, int(attempt[ATTEMPT.deadline_at]), member)
  else
    redis.call('ZREM', tag .. KEY.due, member)
  end
end

-- Exposure begins: silence is judged at every checkpoint from here.
local function expose(tag, attempt, now)
  attempt[ATTEMPT.permitted_at] = now
  attempt[ATTEMPT.aged] = {}
  attempt[ATTEMPT.silent] = {}
  for index, age in ipairs(attempt[ATTEMPT.checkpoints]) do
    attempt[ATTEMPT.aged][index] = false
    attempt[ATTEMPT.silent][index] = false
    local member = 'c' .. int(index - 1) .. '|' .. attempt[ATTEMPT.attempt_id]
    redis.call('ZADD', tag .. KEY.due, int(now + age), member)
    -- Adding nothing makes the counter: a cell with exposures has all its age groups.
    count(tag, attempt, 'a' .. int(index - 1), 0)
  end
end

-- When an attempt times out that enters a live state now. Its states before a permit together last no longer than the
-- sum of their deadlines: who defers and goes on again and again must not hold a slot for ever.
local function deadline(attempt, state, now)
  local deadlines = attempt[ATTEMPT.deadlines]
  local ends_at = now + deadlines[LIVE[state]]
  if not BEFORE_PERMIT[state] then return ends_at end
  local life = 0
  for each, _ in pairs(BEFORE_PERMIT) do life = life + deadlines[LIVE[each]] end
  return math.min(ends_at, attempt[ATTEMPT.granted_at] + life)
end

-- Takes an attempt through one event by the transition table: record, counters, due set, case, journal and the try in
-- `hot`, which the caller saves. Returns whether the event was legal.
local function advance(tag, hot, attempt, event, now, failure_code)
  local from = attempt[ATTEMPT.state]
  local to = NEXT[from .. (attempt[ATTEMPT.permitted_at] and '|p|' or '|b|') .. event]
  if not to then return false end
  count(tag, attempt, state_counter(attempt), -1)
  attempt[ATTEMPT.state] = to
  attempt[ATTEMPT.state_at] = now
  attempt[ATTEMPT.failure_code] = failure_code
  attempt[ATTEMPT.deadline_at] = LIVE[to] and deadline(attempt, to, now) or false
  if event == 'permit_issued' then expose(tag, attempt, now) end
  count(tag, attempt, state_counter(attempt), 1)
  counted(tag, attempt)
  schedule(tag, attempt)
  save(tag, 'attempts', attempt[ATTEMPT.attempt_id], attempt)
  note_try(hot, attempt)
  local data = about(attempt)
  data.from = from
  data.to = to
  data.event = event
  data.failure_code = failure_code
  journal(tag .. KEY.journal, LIVE[from] and 'attempt_changed' or 'attempt_corrected', now, data)
  follow_case(tag, attempt, from, now)
  return true
end

local function profile_key(inventory, installed)
  return table.concat({
    inventory[INVENTORY.model], inventory[INVENTORY.hardware], inventory[INVENTORY.region],
    inventory[INVENTORY.cohort], table.concat(inventory[INVENTORY.tags], GROUP), installed,
  }, UNIT)
end

local function count_profile(tag, inventory, installed, amount)
  local profile = profile_key(inventory, installed)
  if redis.call('HINCRBY', tag .. KEY.profiles, profile, amount) <= 0 then
    redis.call('HDEL', tag .. KEY.profiles, profile)
  end
end
