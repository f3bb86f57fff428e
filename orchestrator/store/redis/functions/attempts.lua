-- Attempts of one shard on their way through the transition table: record, counters, due set, case, journal, try.

local function schedule(tag, attempt)
  local member = 'd|' .. attempt[ATTEMPT.attempt_id]
  if attempt[ATTEMPT.deadline_at] then
    redis.call('ZADD', tag .. KEY.due, int(attempt[ATTEMPT.deadline_at]), member)
  else
    redis.call('ZREM', tag .. KEY.due, member)
  end
end

-- Lets silence be judged at each of some ages from now on; `kind` in front of its members in the due set.
local function schedule_ages(tag, attempt, kind, ages, aged, silent, now)
  attempt[aged] = {}
  attempt[silent] = {}
  for index, age in ipairs(attempt[ages]) do
    attempt[aged][index] = false
    attempt[silent][index] = false
    redis.call('ZADD', tag .. KEY.due, int(now + age), kind .. int(index - 1) .. '|' .. attempt[ATTEMPT.attempt_id])
  end
end

-- Exposure begins. Silence is judged at every checkpoint and every age of its habit, from here,
-- or from the end of an offline permit: until then it may not have begun, and cannot say that it has.
local function expose(tag, attempt, now)
  attempt[ATTEMPT.permitted_at] = now
  local from = now + attempt[ATTEMPT.offline]
  schedule_ages(tag, attempt, 'c', ATTEMPT.checkpoints, ATTEMPT.aged, ATTEMPT.silent, from)
  schedule_ages(tag, attempt, 'h', ATTEMPT.habit_ages, ATTEMPT.habit_aged, ATTEMPT.habit_silent, from)
  for index in ipairs(attempt[ATTEMPT.checkpoints]) do
    -- Adding nothing makes the counter: a cell with exposures has all its age groups.
    count(tag, attempt, ATTEMPT, 'a' .. int(index - 1), 0)
  end
end

-- Heard after an offline permit: whatever it did there is done, and the ages count from here at the latest.
local function hasten(tag, attempt, now)
  for kind, ages in pairs({c = ATTEMPT.checkpoints, h = ATTEMPT.habit_ages}) do
    for index, age in ipairs(attempt[ages]) do
      local member = kind .. int(index - 1) .. '|' .. attempt[ATTEMPT.attempt_id]
      redis.call('ZADD', tag .. KEY.due, 'XX', 'LT', int(now + age), member)
    end
  end
end

-- When an attempt times out that enters a live state now. Its states before a permit together last no longer than the
-- sum of their deadlines: who defers and goes on again and again must not hold a place for ever.
local function deadline(attempt, state, now)
  local deadlines = attempt[ATTEMPT.deadlines]
  local ends_at = now + deadlines[LIVE[state]]
  if state == 'permitted' then ends_at = ends_at + attempt[ATTEMPT.offline] end
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
  count_standing(tag, attempt, -1)
  attempt[ATTEMPT.state] = to
  attempt[ATTEMPT.state_at] = now
  attempt[ATTEMPT.failure_code] = failure_code
  attempt[ATTEMPT.deadline_at] = LIVE[to] and deadline(attempt, to, now) or false
  if attempt[ATTEMPT.permitted_at] and string.sub(failure_code, 1, #SAFETY_CLASS) == SAFETY_CLASS then
    attempt[ATTEMPT.safety] = true
  end
  if event == 'permit_issued' then expose(tag, attempt, now) end
  if from == 'permitted' and attempt[ATTEMPT.offline] > 0 and event ~= 'deadline_passed' then hasten(tag, attempt, now) end
  count_standing(tag, attempt, 1)
  counted(tag, attempt[ATTEMPT.rollout_id])
  schedule(tag, attempt)
  note_try(tag, hot, attempt)
  keep_attempt(tag, attempt, hot)
  local data = about(attempt)
  data.from = from
  data.to = to
  data.event = event
  data.failure_code = failure_code
  if event == 'permit_issued' and attempt[ATTEMPT.offline] > 0 then data.offline_ms = attempt[ATTEMPT.offline] end
  journal(tag .. KEY.journal, LIVE[from] and 'attempt_changed' or 'attempt_corrected', now, data)
  follow_case(tag, attempt, from, now)
  return true
end
