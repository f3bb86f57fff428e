-- A checkpoint was reached: counts the exposure as aged, and as silent unless the vehicle's own word settled it. Frozen.
local function age(tag, attempt, index, now)
  attempt[ATTEMPT.aged][index] = true
  count(tag, attempt, 'a' .. int(index - 1), 1)
  local data = about(attempt)
  data.checkpoint = index - 1
  data.silent = not OWN_WORD[attempt[ATTEMPT.state]]
  if data.silent then
    attempt[ATTEMPT.silent][index] = true
    count(tag, attempt, 's' .. int(index - 1), 1)
  end
  counted(tag, attempt)
  save(tag, 'attempts', attempt[ATTEMPT.attempt_id], attempt)
  journal(tag .. KEY.journal, 'exposure_aged', now, data)
  -- One case an attempt: where its state opened one already, silence adds nothing to it.
  if data.silent and not has_case(tag, attempt[ATTEMPT.attempt_id]) then
    open_case(tag, attempt, 'silent', 'checkpoint ' .. int(index) .. ' in ' .. attempt[ATTEMPT.state], now)
  end
end

-- A deadline passed: a fenced attempt without a permit is withdrawn, any other timed out.
local function expire(tag, attempt, fence, now)
  local fenced = attempt[ATTEMPT.epoch] < fence and not attempt[ATTEMPT.permitted_at]
  local vehicle_id = attempt[ATTEMPT.vehicle_id]
  local hot = load_hot(tag, vehicle_id)
  advance(tag, hot, attempt, fenced and 'withdrawn' or 'deadline_passed', now, fenced and 'fenced' or '')
  save(tag, 'hot', vehicle_id, hot)
end

-- The fence of an attempt: the highest of its rollout's, its region's there and its stratum's.
local function fence_of(fences, attempt)
  local whole = attempt[ATTEMPT.rollout_id]
  local region = whole .. '|' .. attempt[ATTEMPT.region]
  local stratum = region .. '/' .. attempt[ATTEMPT.hardware]
  return math.max(fences[whole] or 0, fences[region] or 0, fences[stratum] or 0)
end

-- sweep: handles what is due on the shard, earliest first. Checkpoints of dark regions are put off.
-- KEYS[1] shard tag. ARGV: fleet time now, most items to handle, packed map of fences by `<rollout id>`,
-- `<rollout id>|<region>` and `<rollout id>|<region>/<hardware>`, then dark regions.
-- Reply: ok, items handled.
register('sweep', function(keys, args)
  local tag, now, batch, fences, dark = keys[1], tonumber(args[1]), args[2], cmsgpack.unpack(args[3]), {}
  for index = 4, #args do dark[args[index]] = true end
  local due = redis.call('ZRANGE', tag .. KEY.due, '-inf', args[1], 'BYSCORE', 'LIMIT', '0', batch)
  for _, member in ipairs(due) do
    redis.call('ZREM', tag .. KEY.due, member)
    local what, id = string.match(member, '^([^|]+)|(.+)$')
    local attempt = load_attempt(tag, id)
    if what == 'd' then
      expire(tag, attempt, fence_of(fences, attempt), now)
    elseif dark[attempt[ATTEMPT.region]] then
      redis.call('ZADD', tag .. KEY.due, int(now + DARK_WAIT_MS), member)
    else
      age(tag, attempt, tonumber(string.sub(what, 2)) + 1, now)
    end
  end
  return {'ok', int(#due)}
end)
