-- Vehicles of one shard, some at a time: all of them, or those of a profile. Who has a profile is kept beside how many have
-- it; both change in one step.

-- look_profiles: every profile of a shard, and whether as many are known by name as are counted.
-- KEYS[1] shard tag. No ARGV. Reply: ok, then profile and `1` or `0` of each.
register('look_profiles', function(keys)
  local tag, reply = keys[1], {'ok'}
  local counted = redis.call('HGETALL', tag .. KEY.profiles)
  for index = 1, #counted, 2 do
    local named = redis.call('SCARD', tag .. KEY.members .. counted[index])
    reply[#reply + 1] = counted[index]
    reply[#reply + 1] = named == tonumber(counted[index + 1]) and '1' or '0'
  end
  return reply
end, true)

-- look_vehicles: some vehicles.
-- KEYS[1] shard tag. ARGV: profile (empty: whatever they have), cursor, about how many. Reply: ok, cursor that follows, how
-- many were looked at, then the id and the six parts of each that is in the inventory and has the profile.
register('look_vehicles', function(keys, args)
  local tag, profile, ids, reply = keys[1], args[1], {}, {'ok'}
  local page
  if profile == '' then
    page = redis.call('HSCAN', tag .. KEY.inventory, args[2], 'COUNT', args[3])
    for index = 1, #page[2], 2 do ids[#ids + 1] = page[2][index] end
  else
    page = redis.call('SSCAN', tag .. KEY.members .. profile, args[2], 'COUNT', args[3])
    ids = page[2]
  end
  reply[2], reply[3] = page[1], int(#ids)
  for _, vehicle_id in ipairs(ids) do
    local hot = load_present(tag, vehicle_id)
    if hot then reply[#reply + 1] = {vehicle_parts(tag, vehicle_id, hot)} end
  end
  return reply
end, true)

-- fill_members: notes who has which profile, of some vehicles of an inventory that an earlier build wrote.
-- KEYS[1] shard tag. ARGV: cursor, about how many. Reply: ok, cursor that follows, how many were not noted before.
register('fill_members', function(keys, args)
  local tag, added, kinds = keys[1], 0, {}
  local page = redis.call('HSCAN', tag .. KEY.inventory, args[1], 'COUNT', args[2])
  for index = 1, #page[2], 2 do
    local vehicle_id, inventory = page[2][index], page[2][index + 1]
    local hot = load_present(tag, vehicle_id)
    if hot then
      local kind = shape_number(inventory) .. '|' .. hot[HOT.installed]
      kinds[kind] = kinds[kind] or {profile = profile_of(tag, inventory, hot[HOT.installed]), ids = {}}
      table.insert(kinds[kind].ids, vehicle_id)
    end
  end
  for _, kind in pairs(kinds) do
    added = added + redis.call('SADD', tag .. KEY.members .. kind.profile, unpack(kind.ids))
  end
  return {'ok', page[1], int(added)}
end)
