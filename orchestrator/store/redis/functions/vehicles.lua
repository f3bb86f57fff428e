-- Records of one shard as the functions below read and write them: vehicles, attempts, counters, tries.

-- What is known of a vehicle, also when it was removed from the inventory. Nothing is kept of one of which nothing is
-- known yet but that it is there.
local function load_hot(tag, vehicle_id)
  local hot, packed = load(tag, 'hot', vehicle_id, HOT)
  if hot or redis.call('HEXISTS', tag .. KEY.inventory, vehicle_id) == 0 then return hot, packed end
  return {SCHEMA, false, '', '', 0, '', 0, {0, 0, 0, 0, ''}, {}, '', {}, false, 0}
end

-- The same of a vehicle that is in the inventory, else nil.
local function load_present(tag, vehicle_id)
  local hot, packed = load_hot(tag, vehicle_id)
  if hot and not hot[HOT.removed] then return hot, packed end
end

-- An attempt, wherever it is kept. A caller that has the record of a vehicle in hand, and may have changed it, gives both.
local function load_attempt(tag, attempt_id, vehicle_id, hot)
  return load(tag, 'attempts', attempt_id, ATTEMPT) or load_ended(tag, attempt_id, vehicle_id, hot)
end

-- Keeps an attempt: in its vehicle's `hot` once it is over and nothing of it is due, else as a record of its own. A caller
-- that has `hot` saves it.
local function keep_attempt(tag, attempt, hot)
  if not is_settled(attempt) then
    save(tag, 'attempts', attempt[ATTEMPT.attempt_id], attempt)
    return
  end
  local vehicle_id = attempt[ATTEMPT.vehicle_id]
  local mine = hot or load_hot(tag, vehicle_id)
  keep_ended(tag, mine, attempt)
  drop(tag, 'attempts', attempt[ATTEMPT.attempt_id])
  if not hot then save(tag, 'hot', vehicle_id, mine) end
end

-- A vehicle's id and the six parts of its record: shape, inventory, hot, latest attempt, last contact, all packed, and
-- the frames of its ended attempts. The latest attempt is empty where there is none or `hot` has it, the contact where
-- there was none.
local function vehicle_parts(tag, vehicle_id, hot, packed)
  local attempt = hot[HOT.attempt_id] ~= '' and redis.call('HGET', tag .. KEY.attempts, hot[HOT.attempt_id])
  local inventory = redis.call('HGET', tag .. KEY.inventory, vehicle_id)
  return vehicle_id, packed_shape(tag, inventory), inventory, packed or cmsgpack.pack(hot), attempt or '',
    redis.call('HGET', tag .. KEY.seen, vehicle_id) or '', frames_of(tag, hot)
end

local function applied(tag, vehicle_id, hot, packed)
  return {'ok', vehicle_parts(tag, vehicle_id, hot, packed)}
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

-- What is known of a vehicle's latest attempt at a rollout: rollout, number, state, when it entered it, whether it had a
-- permit, failure code; nil where there was none. Of an attempt that `hot` keeps no try is written beside it.
local function find_try(tag, hot, rollout_id)
  for _, try in ipairs(hot[HOT.tries]) do
    if try[1] == rollout_id then return try end
  end
  return ended_try(tag, hot, rollout_id)
end

local function put_try(hot, try)
  for index, each in ipairs(hot[HOT.tries]) do
    if each[1] == try[1] then
      hot[HOT.tries][index] = try
      return
    end
  end
  table.insert(hot[HOT.tries], try)
end

-- Keeps what the vehicle's record says of its latest attempt at the rollout.
local function note_try(tag, hot, attempt)
  local try = find_try(tag, hot, attempt[ATTEMPT.rollout_id])
  if try and attempt[ATTEMPT.number] < try[2] then return end
  put_try(hot, try_of(attempt))
end
