-- Records of one shard as the functions below read and write them: vehicles, attempts, counters, profiles.

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

-- What is known of a vehicle, also when it was removed from the inventory. Nothing is kept of one of which nothing is
-- known yet but that it is there.
local function load_hot(tag, vehicle_id)
  local hot = load(tag, 'hot', vehicle_id, HOT)
  if hot or redis.call('HEXISTS', tag .. KEY.inventory, vehicle_id) == 0 then return hot end
  return {SCHEMA, false, '', '', 0, '', 0, {0, 0, 0, 0, ''}, {}, '', {}, false, 0}
end

-- The same of a vehicle that is in the inventory, else nil.
local function load_present(tag, vehicle_id)
  local hot = load_hot(tag, vehicle_id)
  return hot and not hot[HOT.removed] and hot or nil
end

local function load_attempt(tag, attempt_id)
  return load(tag, 'attempts', attempt_id, ATTEMPT)
end

-- A vehicle's id and the five parts of its record, packed: shape, inventory, hot, latest attempt, last contact; the last
-- two may be empty.
local function vehicle_parts(tag, vehicle_id, hot)
  local attempt = hot[HOT.attempt_id] ~= '' and redis.call('HGET', tag .. KEY.attempts, hot[HOT.attempt_id])
  local inventory = redis.call('HGET', tag .. KEY.inventory, vehicle_id)
  return vehicle_id, packed_shape(tag, inventory), inventory, cmsgpack.pack(hot), attempt or '',
    redis.call('HGET', tag .. KEY.seen, vehicle_id) or ''
end

local function applied(tag, vehicle_id, hot)
  return {'ok', vehicle_parts(tag, vehicle_id, hot)}
end

-- Adds to one counter of the rollout of an attempt or a control; `fields` are its positions.
local function count(tag, record, fields, suffix, amount)
  local cell = table.concat({record[fields.region], record[fields.hardware], record[fields.cohort], suffix}, '|')
  redis.call('HINCRBY', tag .. KEY.count .. record[fields.rollout_id], cell, amount)
end

-- Notes that counters of a rollout changed, so that `tally` returns them.
local function counted(tag, rollout_id)
  redis.call('ZADD', tag .. KEY.changed, redis.call('INCR', tag .. KEY.change), rollout_id)
end

-- What stands before the last letter of a counter of an age of a habit.
local function habit_counter(habit, age)
  return 'h|' .. habit .. '|' .. int(age) .. '|'
end

-- Counts an attempt by what it is now: its state, `p` once it has a permit, and how it fared.
local function count_standing(tag, attempt, amount)
  local state = attempt[ATTEMPT.state]
  count(tag, attempt, ATTEMPT, (attempt[ATTEMPT.permitted_at] and 'p|' or 'b|') .. state, amount)
  if attempt[ATTEMPT.diagnosed] and not FAILED[state] then count(tag, attempt, ATTEMPT, 'f|diagnosed', amount) end
  if attempt[ATTEMPT.safety] then count(tag, attempt, ATTEMPT, 'f|safety', amount) end
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
    try = {attempt[ATTEMPT.rollout_id], 0, '', 0, false, ''}
    table.insert(hot[HOT.tries], try)
  end
  if attempt[ATTEMPT.number] < try[2] then return end
  try[2] = attempt[ATTEMPT.number]
  try[3] = attempt[ATTEMPT.state]
  try[4] = attempt[ATTEMPT.state_at]
  try[5] = attempt[ATTEMPT.permitted_at] and true or false
  try[6] = attempt[ATTEMPT.failure_code]
end
