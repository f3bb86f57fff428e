-- Counts an exposure at an age: as aged and maybe silent (`a`, `s`), and once more where it is in no trial (`u`, `v`).
local function count_aged(tag, attempt, before, after, silent)
  local aged = attempt[ATTEMPT.paired] and {a = true, s = silent} or {a = true, s = silent, u = true, v = silent}
  for what, counts in pairs(aged) do
    if counts then count(tag, attempt, ATTEMPT, before .. what .. after, 1) end
  end
end

-- A checkpoint was reached: counts the exposure as aged, and as silent unless the vehicle's own word settled it. Frozen.
local function age(tag, attempt, index, now)
  local silent = not OWN_WORD[attempt[ATTEMPT.state]]
  attempt[ATTEMPT.aged][index] = true
  attempt[ATTEMPT.silent][index] = silent
  count_aged(tag, attempt, '', int(index - 1), silent)
  keep_attempt(tag, attempt)
  local data = about(attempt)
  data.checkpoint = index - 1
  data.silent = silent
  journal(tag .. KEY.journal, 'exposure_aged', now, data)
  -- One case an attempt: where its state opened one already, silence adds nothing to it.
  if silent and not has_case(tag, attempt[ATTEMPT.attempt_id]) then
    open_case(tag, attempt, 'silent', 'checkpoint ' .. int(index) .. ' in ' .. attempt[ATTEMPT.state], now)
  end
end

-- The same at an age of its habit. No case: it is early, and most of them call yet.
local function age_by_habit(tag, attempt, index, now)
  local silent, habit, age_ms = not OWN_WORD[attempt[ATTEMPT.state]], attempt[ATTEMPT.habit],
    attempt[ATTEMPT.habit_ages][index]
  attempt[ATTEMPT.habit_aged][index] = true
  attempt[ATTEMPT.habit_silent][index] = silent
  count_aged(tag, attempt, habit_counter(habit, age_ms), '', silent)
  keep_attempt(tag, attempt)
  local data = about(attempt)
  data.habit = habit
  data.age_ms = age_ms
  data.silent = silent
  journal(tag .. KEY.journal, 'habit_aged', now, data)
end

-- The first checkpoint after the grant was reached: silent is who has no permit and was not heard since. Frozen.
local function age_grant(tag, attempt, _, now)
  -- Who waits has asked for its permit since: whatever it does now, the payload did not hurt it on the way.
  local silent = not attempt[ATTEMPT.permitted_at] and attempt[ATTEMPT.state] ~= 'deferred'
    and not heard_from(tag, attempt[ATTEMPT.vehicle_id], attempt[ATTEMPT.granted_at] + 1)
  attempt[ATTEMPT.grant_aged] = true
  attempt[ATTEMPT.grant_silent] = silent
  count(tag, attempt, ATTEMPT, 'g|a', 1)
  if silent then
    count(tag, attempt, ATTEMPT, 'g|s', 1)
    local data = about(attempt)
    data.state = attempt[ATTEMPT.state]
    journal(tag .. KEY.journal, 'grant_silent', now, data)
  end
  keep_attempt(tag, attempt)
end

-- A deadline passed: a fenced attempt without a permit is withdrawn, any other timed out.
local function expire(tag, attempt, fence, now)
  local fenced = attempt[ATTEMPT.epoch] < fence and not attempt[ATTEMPT.permitted_at]
  local vehicle_id = attempt[ATTEMPT.vehicle_id]
  local hot = load_hot(tag, vehicle_id)
  advance(tag, hot, attempt, fenced and 'withdrawn' or 'deadline_passed', now, fenced and 'fenced' or '')
  save(tag, 'hot', vehicle_id, hot)
end

-- What to do with an attempt that reached an age, by the kind of age.
local AGES = {c = age, h = age_by_habit, g = age_grant}

-- The fence of an attempt: the highest of its rollout's, its region's there and its stratum's, or else the others'.
local function fence_of(fences, attempt)
  local whole = attempt[ATTEMPT.rollout_id]
  local region = whole .. '|' .. attempt[ATTEMPT.region]
  local stratum = region .. '/' .. attempt[ATTEMPT.hardware]
  return math.max(fences[whole] or 0, fences[region] or 0, fences[stratum] or fences[whole .. '|' .. OTHER] or 0)
end

-- sweep: handles what is due on the shard, earliest first. Checkpoints of dark regions are put off.
-- KEYS[1] shard tag. ARGV: fleet time now, most items to handle, packed map of fences by `<rollout id>`,
-- `<rollout id>|<region>`, `<rollout id>|<region>/<hardware>` and `<rollout id>|_other`, then dark regions.
-- Reply: ok, items handled.
register('sweep', function(keys, args)
  local tag, now, batch, fences, dark = keys[1], tonumber(args[1]), args[2], cmsgpack.unpack(args[3]), {}
  for index = 4, #args do dark[args[index]] = true end
  local due = redis.call('ZRANGE', tag .. KEY.due, '-inf', args[1], 'BYSCORE', 'LIMIT', '0', batch)
  for _, member in ipairs(due) do
    redis.call('ZREM', tag .. KEY.due, member)
    local kind, index, id = string.match(member, '^(%a)(%d*)|(.+)$')
    index = (tonumber(index) or 0) + 1
    local of_control = kind == 'k' or kind == 'l'
    local record = of_control and load(tag, 'controls', id, CONTROL) or load_attempt(tag, id)
    if kind == 'd' then
      expire(tag, record, fence_of(fences, record), now)
    elseif dark[record[(of_control and CONTROL or ATTEMPT).region]] then
      redis.call('ZADD', tag .. KEY.due, int(now + DARK_WAIT_MS), member)
    elseif of_control then
      age_control(tag, id, record, kind, index, now)
    else
      AGES[kind](tag, record, index, now)
      counted(tag, record[ATTEMPT.rollout_id])
    end
  end
  return {'ok', int(#due)}
end)
