-- Attempts of one shard on their way through the transition table: record, counters, due set, case, journal, try.

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
