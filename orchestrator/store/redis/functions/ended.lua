-- Attempts that are over and of which nothing is due, as their vehicle's `hot` record keeps them: what the plan and the
-- vehicle's place gave them is kept once a shard under a number (a *frame*), the rest in some twenty bytes.

-- Whether nothing will happen to an attempt by itself any more: it is over, and every age was reached.
local function is_settled(attempt)
  if LIVE[attempt[ATTEMPT.state]] then return false end
  if #attempt[ATTEMPT.checkpoints] > 0 and not attempt[ATTEMPT.grant_aged] then return false end
  if not attempt[ATTEMPT.permitted_at] then
    return #attempt[ATTEMPT.aged] == #attempt[ATTEMPT.checkpoints] and #attempt[ATTEMPT.habit_aged] == 0
  end
  for _, flags in ipairs({attempt[ATTEMPT.aged], attempt[ATTEMPT.habit_aged]}) do
    for _, reached in ipairs(flags) do
      if not reached then return false end
    end
  end
  return true
end

local function load_frame(tag, number)
  local frame = cmsgpack.unpack(redis.call('HGET', tag .. KEY.frames, int(number)))
  if not READABLE[frame[FRAME.schema]] then
    error('a frame has schema ' .. tostring(frame[FRAME.schema]) .. ', this library reads ' .. SCHEMA)
  end
  return frame
end

-- The number of an attempt's frame and the time from which it counts; a new one gets the next number. Frames are never
-- taken back: each rollout makes one of each cell and habit.
local function keep_frame(tag, attempt)
  local frame = {}
  for name, index in pairs(FRAME) do frame[index] = attempt[ATTEMPT[name]] or 0 end
  frame[FRAME.from] = 0
  local common = cmsgpack.pack(frame)
  local known = redis.call('HGET', tag .. KEY.frame_numbers, common)
  if known then
    local number, from = string.match(known, '^(%d+)|(%d+)$')
    return tonumber(number), tonumber(from)
  end
  local number = redis.call('HLEN', tag .. KEY.frames) + 1
  frame[FRAME.from] = attempt[ATTEMPT.granted_at]
  redis.call('HSET', tag .. KEY.frames, int(number), cmsgpack.pack(frame))
  redis.call('HSET', tag .. KEY.frame_numbers, common, int(number) .. '|' .. int(frame[FRAME.from]))
  return number, frame[FRAME.from]
end

-- The flags of an attempt as one number: how it fared, then by age whether it was silent.
local function pack_flags(attempt)
  local flags, bit = 0, 1
  local function put(flag)
    if flag then flags = flags + bit end
    bit = bit * 2
  end
  put(not attempt[ATTEMPT.paired])
  put(attempt[ATTEMPT.grant_silent])
  put(attempt[ATTEMPT.diagnosed])
  put(attempt[ATTEMPT.safety])
  for _, silent in ipairs({attempt[ATTEMPT.silent], attempt[ATTEMPT.habit_silent]}) do
    for _, flag in ipairs(silent) do put(flag) end
  end
  return flags
end

-- The attempt again: every age was reached where it had a permit, and none where it had none.
local function expand(frame, vehicle_id, ended)
  local attempt, flags = {}, ended[ENDED.flags]
  local function take()
    local flag = flags % 2 == 1
    flags = math.floor(flags / 2)
    return flag
  end
  for name, index in pairs(FRAME) do
    if ATTEMPT[name] then attempt[ATTEMPT[name]] = frame[index] end
  end
  local number, from = ended[ENDED.number], frame[FRAME.from]
  local permitted_at = ended[ENDED.permitted] and from + ended[ENDED.granted] + ended[ENDED.permitted]
  attempt[ATTEMPT.attempt_id] = frame[FRAME.rollout_id] .. '.' .. vehicle_id .. '.' .. int(number)
  attempt[ATTEMPT.vehicle_id] = vehicle_id
  attempt[ATTEMPT.number] = number
  attempt[ATTEMPT.epoch] = ended[ENDED.epoch]
  attempt[ATTEMPT.state] = OVER[ended[ENDED.state]]
  attempt[ATTEMPT.granted_at] = from + ended[ENDED.granted]
  attempt[ATTEMPT.permitted_at] = permitted_at
  attempt[ATTEMPT.state_at] = (permitted_at or attempt[ATTEMPT.granted_at]) + ended[ENDED.entered]
  attempt[ATTEMPT.deadline_at] = false
  attempt[ATTEMPT.failure_code] = ended[ENDED.failure_code]
  attempt[ATTEMPT.offline] = ended[ENDED.offline]
  attempt[ATTEMPT.grant_aged] = #frame[FRAME.checkpoints] > 0
  attempt[ATTEMPT.paired] = not take()
  attempt[ATTEMPT.grant_silent] = take()
  attempt[ATTEMPT.diagnosed] = take()
  attempt[ATTEMPT.safety] = take()
  local exposed = permitted_at and true or false
  local function ages(aged, silent, count)
    attempt[aged], attempt[silent] = {}, {}
    for index = 1, count do
      attempt[aged][index] = exposed
      attempt[silent][index] = take()
    end
  end
  ages(ATTEMPT.aged, ATTEMPT.silent, #frame[FRAME.checkpoints])
  ages(ATTEMPT.habit_aged, ATTEMPT.habit_silent, exposed and #frame[FRAME.habit_ages] or 0)
  return attempt
end

-- Place and frame of a rollout's ended attempt by its number, or without one of its latest; nil where there is none.
local function find_ended(tag, hot, rollout_id, number)
  local found, found_frame, highest = nil, nil, 0
  for index, ended in ipairs(hot[HOT.ended] or {}) do
    local own = ended[ENDED.number]
    if own == number or (not number and own > highest) then
      local frame = load_frame(tag, ended[ENDED.frame])
      if frame[FRAME.rollout_id] == rollout_id then found, found_frame, highest = index, frame, own end
    end
  end
  return found, found_frame
end

-- An ended attempt by its id, or nil. `hot` is that of `in_hand`, where the caller has one.
local function load_ended(tag, attempt_id, in_hand, hot)
  local rollout_id, vehicle_id, number = string.match(attempt_id, '^([^.]+)%.([^.]+)%.(%d+)$')
  if not number or int(tonumber(number)) ~= number then return nil end
  if vehicle_id ~= in_hand then hot = load(tag, 'hot', vehicle_id, HOT) end
  if not hot then return nil end
  local index, frame = find_ended(tag, hot, rollout_id, tonumber(number))
  return index and expand(frame, vehicle_id, hot[HOT.ended][index])
end

-- What a vehicle's record says of an attempt that is its latest at a rollout.
local function try_of(attempt)
  return {
    attempt[ATTEMPT.rollout_id], attempt[ATTEMPT.number], attempt[ATTEMPT.state], attempt[ATTEMPT.state_at],
    attempt[ATTEMPT.permitted_at] and true or false, attempt[ATTEMPT.failure_code],
  }
end

local function ended_try(tag, hot, rollout_id)
  local index, frame = find_ended(tag, hot, rollout_id, nil)
  return index and try_of(expand(frame, '', hot[HOT.ended][index]))
end

-- Keeps an attempt in `hot`, in place of what stands there of it; its try goes, which says nothing else.
local function keep_ended(tag, hot, attempt)
  local number, rollout_id = attempt[ATTEMPT.number], attempt[ATTEMPT.rollout_id]
  local frame, from = keep_frame(tag, attempt)
  local permitted_at, granted_at = attempt[ATTEMPT.permitted_at], attempt[ATTEMPT.granted_at]
  local ended = {}
  ended[ENDED.frame] = frame
  ended[ENDED.granted] = granted_at - from
  ended[ENDED.permitted] = permitted_at and permitted_at - granted_at
  ended[ENDED.entered] = attempt[ATTEMPT.state_at] - (permitted_at or granted_at)
  ended[ENDED.state] = OVER_NUMBER[attempt[ATTEMPT.state]]
  ended[ENDED.epoch] = attempt[ATTEMPT.epoch]
  ended[ENDED.number] = number
  ended[ENDED.flags] = pack_flags(attempt)
  ended[ENDED.failure_code] = attempt[ATTEMPT.failure_code]
  ended[ENDED.offline] = attempt[ATTEMPT.offline]
  hot[HOT.schema] = SCHEMA_ENDED
  hot[HOT.ended] = hot[HOT.ended] or {}
  local index = find_ended(tag, hot, rollout_id, number) or #hot[HOT.ended] + 1
  hot[HOT.ended][index] = ended
  for place, try in ipairs(hot[HOT.tries]) do
    if try[1] == rollout_id and try[2] == number then table.remove(hot[HOT.tries], place) break end
  end
end

-- Number and packed frame of each of a vehicle's ended attempts.
local function frames_of(tag, hot)
  local frames, seen = {}, {}
  for _, ended in ipairs(hot[HOT.ended] or {}) do
    local number = int(ended[ENDED.frame])
    if not seen[number] then
      seen[number] = true
      frames[#frames + 1] = number
      frames[#frames + 1] = redis.call('HGET', tag .. KEY.frames, number)
    end
  end
  return frames
end
