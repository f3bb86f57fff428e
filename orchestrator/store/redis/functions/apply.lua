-- Skips numbers that the vehicle no longer keeps or did not send, and says so in the journal.
local function skip_gap(tag, vehicle_id, hot, upto, now)
  local data = {
    vehicle_id = vehicle_id, outbox_id = hot[HOT.outbox_id],
    first = hot[HOT.acknowledged_number] + 1, last = upto,
  }
  journal(tag .. KEY.journal, 'events_gap', now, data)
  hot[HOT.acknowledged_number] = upto
end

-- One event: changes its attempt if it may, and says in the journal if it may not.
local function apply_event(tag, vehicle_id, hot, event, now)
  local number, attempt_id, kind, failure_code = unpack(event)
  local attempt = load_attempt(tag, attempt_id, vehicle_id, hot)
  local why = 'unknown_attempt'
  if attempt and attempt[ATTEMPT.vehicle_id] == vehicle_id then
    if advance(tag, hot, attempt, kind, now, failure_code) then return end
    why = attempt[ATTEMPT.state]
  end
  journal(tag .. KEY.journal, 'event_ignored', now, {
    -- By its name, as after a restore the attempt itself may be gone: the rollout's story has what was said of it.
    rollout_id = string.match(attempt_id, '^([^.]+)%.[^.]+%.%d+$'),
    vehicle_id = vehicle_id, attempt_id = attempt_id, outbox_id = hot[HOT.outbox_id], number = number, event = kind,
    failure_code = failure_code, why = why,
  })
end

-- apply: acknowledges events, each once by (outbox id, number), in order.
-- KEYS[1] shard tag. ARGV: vehicle id, outbox id, oldest number kept (0 when none), fleet time now, packed events.
-- Reply: ok and the record's parts, or unknown.
register('apply', function(keys, args)
  local tag, vehicle_id, outbox_id = keys[1], args[1], args[2]
  local oldest, now, events = tonumber(args[3]), tonumber(args[4]), cmsgpack.unpack(args[5])
  local hot = load_present(tag, vehicle_id)
  if not hot then return {'unknown'} end
  if hot[HOT.outbox_id] ~= outbox_id then
    hot[HOT.outbox_id] = outbox_id
    hot[HOT.acknowledged_number] = 0
  end
  if oldest > hot[HOT.acknowledged_number] + 1 then skip_gap(tag, vehicle_id, hot, oldest - 1, now) end
  for _, event in ipairs(events) do
    if event[1] > hot[HOT.acknowledged_number] then
      if event[1] > hot[HOT.acknowledged_number] + 1 then skip_gap(tag, vehicle_id, hot, event[1] - 1, now) end
      apply_event(tag, vehicle_id, hot, event, now)
      hot[HOT.acknowledged_number] = event[1]
    end
  end
  return applied(tag, vehicle_id, hot, save(tag, 'hot', vehicle_id, hot))
end)
