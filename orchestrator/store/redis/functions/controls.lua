-- Controls of one shard: vehicles that wait, watched beside the exposures of their stratum and habit.

-- The field of the exposures (`x`) or the enrolled (`e`) of those that are compared with each other.
local function kin(record, fields, what)
  return table.concat({record[fields.region], record[fields.hardware], record[fields.habit], what}, '|')
end

local function about_control(control)
  return {
    rollout_id = control[CONTROL.rollout_id],
    vehicle_id = control[CONTROL.vehicle_id],
    region = control[CONTROL.region],
    hardware = control[CONTROL.hardware],
    cohort = control[CONTROL.cohort],
    habit = control[CONTROL.habit],
    enrolled_at = control[CONTROL.enrolled_at],
  }
end

-- The name of a vehicle that is watched in a rollout.
local function watch_name(control)
  return control[CONTROL.rollout_id] .. '|' .. control[CONTROL.vehicle_id]
end

-- Whether every flag is set.
local function all(flags)
  for _, flag in ipairs(flags) do
    if not flag then return false end
  end
  return true
end

-- The counter of controls (`k`) or silent ones (`l`) at a checkpoint, or at an age of a habit.
local function age_counter(control, early, index, what)
  if early then return habit_counter(control[CONTROL.habit], control[CONTROL.habit_ages][index]) .. what end
  return what .. int(index - 1)
end

-- A control reached a checkpoint (`k`) or an age of its habit (`l`): counted, and as silent unless it called since.
local function age_control(tag, name, control, kind, index, now)
  local vehicle_id = control[CONTROL.vehicle_id]
  if not load_present(tag, vehicle_id) then
    -- Who was taken out of the inventory says nothing, now or later.
    redis.call('SREM', tag .. KEY.watched, watch_name(control))
    return
  end
  local silent = not heard_since(tag, vehicle_id, control[CONTROL.enrolled_at])
  local early = kind == 'l'
  control[early and CONTROL.habit_aged or CONTROL.aged][index] = true
  control[early and CONTROL.habit_silent or CONTROL.silent][index] = silent
  count(tag, control, CONTROL, age_counter(control, early, index, 'k'), 1)
  if silent then
    count(tag, control, CONTROL, age_counter(control, early, index, 'l'), 1)
    local data = about_control(control)
    data.age_ms = control[early and CONTROL.habit_ages or CONTROL.checkpoints][index]
    journal(tag .. KEY.journal, 'control_silent', now, data)
  end
  counted(tag, control[CONTROL.rollout_id])
  save(tag, 'controls', name, control)
  if all(control[CONTROL.aged]) and all(control[CONTROL.habit_aged]) then
    redis.call('SREM', tag .. KEY.watched, watch_name(control))
  end
end

-- enrol: watches a vehicle as a control, if one is owed.
-- KEYS[1] shard tag. ARGV: packed control, controls ahead of exposures, controls for each exposure.
-- Reply: ok, `1` or `0`.
register('enrol', function(keys, args)
  local tag, control = keys[1], cmsgpack.unpack(args[1])
  local enrolled_at, watch = control[CONTROL.enrolled_at], watch_name(control)
  local owed, enrolled = tag .. KEY.owed .. control[CONTROL.rollout_id], kin(control, CONTROL, 'e')
  local counts = redis.call('HMGET', owed, kin(control, CONTROL, 'x'), enrolled)
  local left = tonumber(args[2]) + tonumber(args[3]) * (tonumber(counts[1]) or 0) - (tonumber(counts[2]) or 0)
  if left < 1 or redis.call('SISMEMBER', tag .. KEY.watched, watch) == 1 then return {'ok', '0'} end
  if not load_present(tag, control[CONTROL.vehicle_id]) then return {'ok', '0'} end
  redis.call('HINCRBY', owed, enrolled, 1)
  redis.call('SADD', tag .. KEY.watched, watch)
  local name = watch .. '|' .. int(enrolled_at)
  save(tag, 'controls', name, control)
  for kind, ages in pairs({k = control[CONTROL.checkpoints], l = control[CONTROL.habit_ages]}) do
    for index, age in ipairs(ages) do
      redis.call('ZADD', tag .. KEY.due, int(enrolled_at + age), kind .. int(index - 1) .. '|' .. name)
    end
  end
  journal(tag .. KEY.journal, 'control_enrolled', enrolled_at, about_control(control))
  return {'ok', '1'}
end)
