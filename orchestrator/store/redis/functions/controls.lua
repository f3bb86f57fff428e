-- Controls of one shard: vehicles that wait by a coin, watched beside the exposures.

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

-- The counter of controls (`k`) or silent ones (`l`) at a checkpoint, or at an age of a habit.
local function age_counter(control, early, index, what)
  if early then return habit_counter(control[CONTROL.habit], control[CONTROL.habit_ages][index]) .. what end
  return what .. int(index - 1)
end

-- A control reached a checkpoint (`k`) or an age of its habit (`l`): counted, and as silent unless it called since, but
-- for the contact at which it asked.
local function age_control(tag, name, control, kind, index, now)
  local vehicle_id = control[CONTROL.vehicle_id]
  -- Who was taken out of the inventory says nothing.
  if not load_present(tag, vehicle_id) then return end
  local silent = not heard_from(tag, vehicle_id, control[CONTROL.enrolled_at] + HEARD_AFTER_MS)
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
end

-- enrol: watches a vehicle as a control from a time on; a repetition finds it watched.
-- KEYS[1] shard tag. ARGV: packed control.
-- Reply: ok, `1` or `0`.
register('enrol', function(keys, args)
  local tag, control = keys[1], cmsgpack.unpack(args[1])
  local enrolled_at = control[CONTROL.enrolled_at]
  local name = table.concat({control[CONTROL.rollout_id], control[CONTROL.vehicle_id], int(enrolled_at)}, '|')
  if redis.call('HEXISTS', tag .. KEY.controls, name) == 1 then return {'ok', '0'} end
  if not load_present(tag, control[CONTROL.vehicle_id]) then return {'ok', '0'} end
  save(tag, 'controls', name, control)
  for kind, ages in pairs({k = control[CONTROL.checkpoints], l = control[CONTROL.habit_ages]}) do
    for index, age in ipairs(ages) do
      redis.call('ZADD', tag .. KEY.due, int(enrolled_at + age), kind .. int(index - 1) .. '|' .. name)
    end
  end
  journal(tag .. KEY.journal, 'control_enrolled', enrolled_at, about_control(control))
  return {'ok', '1'}
end)
