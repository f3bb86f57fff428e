-- Replaces a vehicle's inventory. Of what kind it was before the step and is now is noted in `moves`, for `move_members`.
local function replace_inventory(tag, vehicle_id, hot, before, after, moves)
  local function kind(inventory) return shape_number(inventory) .. '|' .. hot[HOT.installed] end
  local move = moves[vehicle_id] or {from = before and kind(before) or false}
  move.to = kind(after)
  moves[vehicle_id] = move
  put(tag, 'inventory', vehicle_id, after)
end

-- Counts by profile what was noted of a whole step: many vehicles of few kinds.
local function move_members(tag, moves)
  local left, joined = {}, {}
  local function note(side, kind, vehicle_id)
    side[kind] = side[kind] or {}
    table.insert(side[kind], vehicle_id)
  end
  for vehicle_id, move in pairs(moves) do
    if move.from ~= move.to then
      if move.from then note(left, move.from, vehicle_id) end
      note(joined, move.to, vehicle_id)
    end
  end
  local function profile(kind) return profile_of(tag, kind, string.match(kind, '^%d+|(.*)$')) end
  -- Kinds that differ in control units alone share a profile: whoever moves within it must be left in it.
  for kind, ids in pairs(left) do leave_profile(tag, profile(kind), ids) end
  for kind, ids in pairs(joined) do join_profile(tag, profile(kind), ids) end
end

-- What is known of a vehicle that comes into the inventory: nothing, or what stayed when it was removed.
local function admit(tag, vehicle_id, before, hot)
  if hot then
    hot[HOT.removed] = false
    save(tag, 'hot', vehicle_id, hot)
  end
  -- What was written behind about somebody who was not in the inventory does not count.
  if before then redis.call('HDEL', tag .. KEY.seen, vehicle_id) end
  return hot or {[HOT.installed] = ''}
end

-- import: adds or replaces inventory; keeps what is known of a vehicle that stands already.
-- KEYS[1] shard tag. ARGV: fleet time now, then vehicle id, shape and units of each.
-- Reply: ok, added, changed, unchanged.
register('import', function(keys, args)
  local tag, now = keys[1], tonumber(args[1])
  local added, changed, unchanged, numbers, moves = 0, 0, 0, {}, {}
  for index = 2, #args, 3 do
    local vehicle_id, shape = args[index], args[index + 1]
    numbers[shape] = numbers[shape] or keep_shape(tag, shape)
    local after = numbers[shape] .. '|' .. args[index + 2]
    local before, hot = redis.call('HGET', tag .. KEY.inventory, vehicle_id), load(tag, 'hot', vehicle_id, HOT)
    if not before or (hot and hot[HOT.removed]) then
      added = added + 1
      replace_inventory(tag, vehicle_id, admit(tag, vehicle_id, before, hot), nil, after, moves)
    elseif before == after then
      unchanged = unchanged + 1
    else
      changed = changed + 1
      replace_inventory(tag, vehicle_id, hot or {[HOT.installed] = ''}, before, after, moves)
    end
  end
  move_members(tag, moves)
  if added + changed > 0 then
    journal(tag .. KEY.journal, 'vehicles_imported', now, {added = added, changed = changed})
  end
  return {'ok', int(added), int(changed), int(unchanged)}
end)

-- change_vehicles: replaces inventory of vehicles that still are as they were read, each journalled.
-- KEYS[1] shard tag. ARGV: fleet time now, then vehicle id, shape and units as they were read, shape and units as they
-- shall be, and packed journal data of each. Reply: ok, then the ids of those that were not as they were read.
register('change_vehicles', function(keys, args)
  local tag, reply, moves = keys[1], {'ok'}, {}
  for index = 2, #args, 6 do
    local vehicle_id, known = args[index], number_of(tag, args[index + 1])
    local before = known and known .. '|' .. args[index + 2]
    local hot = load_present(tag, vehicle_id)
    if hot and redis.call('HGET', tag .. KEY.inventory, vehicle_id) == before then
      local after = keep_shape(tag, args[index + 3]) .. '|' .. args[index + 4]
      replace_inventory(tag, vehicle_id, hot, before, after, moves)
      append(tag .. KEY.journal, 'vehicle_changed', args[1], args[index + 5])
    else
      reply[#reply + 1] = vehicle_id
    end
  end
  move_members(tag, moves)
  return reply
end)

-- remove_vehicle: takes a vehicle out of the inventory; what must never start again from nothing stays in its hot record.
-- KEYS[1] shard tag. ARGV: vehicle id, actor, reason, fleet time now. Reply: ok, `1` or `0`; refused attempt_live.
register('remove_vehicle', function(keys, args)
  local tag, vehicle_id = keys[1], args[1]
  local hot = load_present(tag, vehicle_id)
  if not hot then return {'ok', '0'} end
  local latest = hot[HOT.attempt_id] ~= '' and load_attempt(tag, hot[HOT.attempt_id], vehicle_id, hot)
  if latest and LIVE[latest[ATTEMPT.state]] then
    return refused('attempt_live', {attempt_id = latest[ATTEMPT.attempt_id], live = latest[ATTEMPT.attempt_id]})
  end
  local profile = profile_of(tag, redis.call('HGET', tag .. KEY.inventory, vehicle_id), hot[HOT.installed])
  leave_profile(tag, profile, {vehicle_id})
  hot[HOT.removed] = true
  save(tag, 'hot', vehicle_id, hot)
  redis.call('DEL', tag .. KEY.token .. vehicle_id)
  journal(tag .. KEY.journal, 'vehicle_removed', tonumber(args[4]),
    {vehicle_id = vehicle_id, actor = args[2], reason = args[3]})
  return {'ok', '1'}
end)
