-- Contacts of one shard: when each vehicle was heard last, what its gaps teach, how many calls come from each region.

-- Whether a vehicle called at a time or later.
local function heard_from(tag, vehicle_id, at)
  local seen = redis.call('HGET', tag .. KEY.seen, vehicle_id)
  return seen and tonumber(string.match(seen, '^%d+')) >= at or false
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

-- A contact as it is kept, with what its gap teaches, and whether it is a new one; nil where the one before, `seen`, is
-- younger. One that told nothing (empty) keeps what was told before.
local function kept_contact(seen, at, told)
  local mean, heard, new = 0, 0, true
  if seen then
    local last, last_mean, last_heard = string.match(seen, '^(%d+)|(%d+)|(%d+)|')
    if told == '' then told = string.match(seen, '^%d+|%d+|%d+|(.*)$') end
    local gap = at - tonumber(last)
    if gap < 0 then return nil end
    new = gap > 0
    mean, heard = learn(tonumber(last_mean), tonumber(last_heard), gap)
  end
  return table.concat({int(at), int(mean), int(heard), told}, '|'), new
end

-- touch: writes last contacts behind, of vehicles that are in the inventory or were. Reads and writes each hash once. One
-- as old as what is kept is not counted: it may be told again, as a call whose outcome was not confirmed is repeated. An
-- older one is not written either.
-- KEYS[1] shard tag. ARGV: vehicle id (each once), fleet time and what it told, packed (empty: nothing), of each. Reply:
-- ok.
register('touch', function(keys, args)
  local tag, ids, calls, kept, regions = keys[1], {}, {}, {}, {}
  for index = 1, #args, 3 do ids[#ids + 1] = args[index] end
  local inventories = redis.call('HMGET', tag .. KEY.inventory, unpack(ids))
  local seen = redis.call('HMGET', tag .. KEY.seen, unpack(ids))
  for index, packed in ipairs(inventories) do
    local at = tonumber(args[3 * index - 1])
    local contact, new = nil, false
    if packed then contact, new = kept_contact(seen[index], at, args[3 * index]) end
    if contact then
      kept[#kept + 1] = ids[index]
      kept[#kept + 1] = contact
    end
    if new then
      local shape, number = shape_number(packed), math.floor(at / HALF_HOUR_MS)
      regions[shape] = regions[shape] or load_shape(tag, packed)[SHAPE.region]
      local region = regions[shape]
      calls[region] = calls[region] or {}
      calls[region][number] = (calls[region][number] or 0) + 1
    end
  end
  if #kept > 0 then redis.call('HSET', tag .. KEY.seen, unpack(kept)) end
  for region, numbers in pairs(calls) do
    for number, amount in pairs(numbers) do count_calls(tag, region, number, amount) end
  end
  return {'ok'}
end)
