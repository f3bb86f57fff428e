-- Contacts of one shard: when each vehicle was heard last, what its gaps teach, how many calls come from each region.

-- Whether a vehicle called after a time.
local function heard_since(tag, vehicle_id, at)
  local seen = redis.call('HGET', tag .. KEY.seen, vehicle_id)
  return seen and tonumber(string.match(seen, '^%d+')) > at or false
end

-- Counts calls of a region in a half hour; one that is older than all that is kept is nobody's.
local function count_calls(tag, region, number, calls)
  local field = region .. '|' .. int(number % HALF_HOURS_KEPT)
  local kept = redis.call('HGET', tag .. KEY.contacts, field)
  local held, count = number, 0
  if kept then
    local kept_number, kept_count = string.match(kept, '^(%d+)|(%d+)$')
    held, count = tonumber(kept_number), tonumber(kept_count)
  end
  if held > number then return end
  if held < number then count = 0 end
  redis.call('HSET', tag .. KEY.contacts, field, int(number) .. '|' .. int(count + calls))
end

-- The mean of a vehicle's gaps and how many were heard, after one more (engine/habits.learn).
local function learn(mean, heard, gap)
  if gap < SAME_CONTACT_MS then return mean, heard end
  if heard == 0 then return gap, 1 end
  return mean + math.floor((gap - mean) / 8), heard + 1
end

-- Writes a contact over the one before, unless that is younger.
local function note_contact(tag, vehicle_id, at, told)
  local seen, mean, heard = redis.call('HGET', tag .. KEY.seen, vehicle_id), 0, 0
  if seen then
    local last, last_mean, last_heard = string.match(seen, '^(%d+)|(%d+)|(%d+)|')
    local gap = at - tonumber(last)
    if gap < 0 then return end
    mean, heard = learn(tonumber(last_mean), tonumber(last_heard), gap)
  end
  redis.call('HSET', tag .. KEY.seen, vehicle_id, table.concat({int(at), int(mean), int(heard), told}, '|'))
end

-- touch: writes last contacts behind, of vehicles that are in the inventory or were.
-- KEYS[1] shard tag. ARGV: vehicle id, fleet time and what it told, packed, of each. Reply: ok.
register('touch', function(keys, args)
  local tag, calls = keys[1], {}
  for index = 1, #args, 3 do
    local vehicle_id, at = args[index], tonumber(args[index + 1])
    local inventory = load(tag, 'inventory', vehicle_id, INVENTORY)
    if inventory then
      local region, number = inventory[INVENTORY.region], math.floor(at / HALF_HOUR_MS)
      calls[region] = calls[region] or {}
      calls[region][number] = (calls[region][number] or 0) + 1
      note_contact(tag, vehicle_id, at, args[index + 2])
    end
  end
  for region, numbers in pairs(calls) do
    for number, amount in pairs(numbers) do count_calls(tag, region, number, amount) end
  end
  return {'ok'}
end)
