-- What every journal entry about an exclusion says; a denial is about its rollout too.
local function about_exclusion(vehicle_id, scope, actor, reason)
  local data = {vehicle_id = vehicle_id, scope = scope, actor = actor, reason = reason}
  if scope ~= '' then data.rollout_id = scope end
  return data
end

-- Place of a scope among exclusions, which are in order of their scopes, and whether it is there.
local function place(exclusions, scope)
  for index, exclusion in ipairs(exclusions) do
    if exclusion[1] >= scope then return index, exclusion[1] == scope end
  end
  return #exclusions + 1, false
end

-- exclude: keeps a vehicle out of a scope; the first exclusion of a scope stands. Opens a case `repeated` of the attempt
-- that is blamed, if any is.
-- KEYS[1] shard tag. ARGV: vehicle id, scope (empty: every rollout), actor, reason, fleet time since when, attempt id
-- (empty: none is blamed).
-- Reply: ok, `1` or `0`; unknown.
register('exclude', function(keys, args)
  local tag, vehicle_id, scope, at = keys[1], args[1], args[2], tonumber(args[5])
  local hot = load_present(tag, vehicle_id)
  if not hot then return {'unknown'} end
  local index, there = place(hot[HOT.exclusions], scope)
  if there then return {'ok', '0'} end
  table.insert(hot[HOT.exclusions], index, {scope, args[3], args[4], at})
  save(tag, 'hot', vehicle_id, hot)
  journal(tag .. KEY.journal, 'vehicle_excluded', at, about_exclusion(vehicle_id, scope, args[3], args[4]))
  local attempt = args[6] ~= '' and load_attempt(tag, args[6])
  if attempt then open_case(tag, attempt, 'repeated', args[4], at) end
  return {'ok', '1'}
end)

-- readmit: takes the exclusion of a scope back; of every rollout: what failed before is forgiven.
-- KEYS[1] shard tag. ARGV: vehicle id, scope, actor, reason, fleet time now. Reply: ok, `1` or `0`; unknown.
register('readmit', function(keys, args)
  local tag, vehicle_id, scope = keys[1], args[1], args[2]
  local hot = load_present(tag, vehicle_id)
  if not hot then return {'unknown'} end
  local index, there = place(hot[HOT.exclusions], scope)
  if not there then return {'ok', '0'} end
  table.remove(hot[HOT.exclusions], index)
  if scope == '' then hot[HOT.forgiven_at] = tonumber(args[5]) end
  save(tag, 'hot', vehicle_id, hot)
  journal(tag .. KEY.journal, 'vehicle_readmitted', tonumber(args[5]),
    about_exclusion(vehicle_id, scope, args[3], args[4]))
  return {'ok', '1'}
end)
