-- Places of one rollout: who holds an in-flight slot, a place in a quota, a permit; and how many of each. An attempt is
-- admitted from its reservation on until it is over, but for the time for which it stands aside, and for ever once it has
-- a permit.

local MINUTE_MS = 60000
local ALL, AT_RISK = '*', '*b'
local ASIDE = '-'

-- The cell of an attempt, of three arguments from `first` on.
local function cell_of(args, first)
  return {
    region = args[first], stratum = args[first] .. '/' .. args[first + 1],
    name = table.concat({args[first], args[first + 1], args[first + 2]}, '|'),
  }
end

-- The place of a live attempt: machine time since which it holds its slot (nil while suspended or aside), whether it
-- stands aside, and name of its cell. Nil when it never took one, or is over.
local function load_place(tag, id)
  local place = redis.call('HGET', tag .. KEY.slots, id)
  if not place then return nil end
  local taken, cell = string.match(place, '^([^|]*)|(.+)$')
  return {taken = tonumber(taken), aside = taken == ASIDE, cell = cell, region = string.match(cell, '^[^|]+')}
end

-- Whether an attempt has a place in the quota; `place` as loaded.
local function is_counted(place)
  return place ~= nil and not place.aside
end

local function has_permit(tag, id)
  return redis.call('HEXISTS', tag .. KEY.permits, id) == 1
end

local function count_slot(tag, region, permitted, amount)
  redis.call('HINCRBY', tag .. KEY.in_flight, region, amount)
  redis.call('HINCRBY', tag .. KEY.in_flight, ALL, amount)
  if not permitted then redis.call('HINCRBY', tag .. KEY.in_flight, AT_RISK, amount) end
end

-- The refusal of one more slot; nil when there is one.
local function no_slot(tag, region, region_max, total_max)
  local held = redis.call('HMGET', tag .. KEY.in_flight, region, ALL)
  local in_region, in_all = tonumber(held[1]) or 0, tonumber(held[2]) or 0
  if in_region >= tonumber(region_max) then
    return refused('in_flight_spent', {scope = region, in_flight = in_region, limit = region_max})
  end
  if in_all >= tonumber(total_max) then
    return refused('in_flight_spent', {scope = 'all regions', in_flight = in_all, limit = total_max})
  end
  return nil
end

-- Holds a slot from now on; `place` as loaded.
local function take_place(tag, id, place, cell, machine)
  if not is_counted(place) then redis.call('HINCRBY', tag .. KEY.admitted, cell.name, 1) end
  if not place or not place.taken then count_slot(tag, cell.region, false, 1) end
  redis.call('HSET', tag .. KEY.slots, id, int(machine) .. '|' .. cell.name)
end

-- Gives back the slot and the place in the quota of an attempt without a permit, which stays known; `place` as loaded.
local function stand_aside(tag, id, place)
  if not is_counted(place) then return end
  if place.taken then count_slot(tag, place.region, false, -1) end
  redis.call('HINCRBY', tag .. KEY.admitted, place.cell, -1)
  redis.call('HSET', tag .. KEY.slots, id, ASIDE .. '|' .. place.cell)
end

-- Gives back all that an attempt holds that is over; a permit keeps its place in the quota.
local function release_place(tag, id)
  local place = load_place(tag, id)
  if not place then return end
  local permitted = has_permit(tag, id)
  redis.call('HDEL', tag .. KEY.slots, id)
  if place.taken then count_slot(tag, place.region, permitted, -1) end
  if not permitted and not place.aside then redis.call('HINCRBY', tag .. KEY.admitted, place.cell, -1) end
end

-- Lets the permit of an attempt that is over be a number: nothing will be asked about it any more.
local function spend_permit(tag, id)
  local permit = redis.call('HGET', tag .. KEY.permits, id)
  if not permit or redis.call('ZSCORE', tag .. KEY.unsettled, 'p|' .. id) then return end
  redis.call('HDEL', tag .. KEY.permits, id)
  redis.call('HINCRBY', tag .. KEY.spent, string.match(permit, '^%d+|%d+|%d+|%d|(.+)$'), 1)
  redis.call('HINCRBY', tag .. KEY.spent, ALL, 1)
end

-- How many permits there were so far.
local function count_permits(tag)
  return redis.call('HLEN', tag .. KEY.permits) + (tonumber(redis.call('HGET', tag .. KEY.spent, ALL)) or 0)
end

-- suspend: gives back the slots of attempts without a permit that were taken before they were deferred.
-- KEYS[1] rollout tag. ARGV: attempt id and machine time of its deferral, of each. Reply: ok.
register('suspend', function(keys, args)
  local tag = keys[1]
  for index = 1, #args, 2 do
    local id, place = args[index], load_place(tag, args[index])
    if place and place.taken and place.taken < tonumber(args[index + 1]) and not has_permit(tag, id) then
      count_slot(tag, place.region, false, -1)
      redis.call('HSET', tag .. KEY.slots, id, '|' .. place.cell)
      redis.call('ZREM', tag .. KEY.unsettled, 's|' .. id)
    end
  end
  return {'ok'}
end)

-- release: returns the slots of these, which are over, and their place in the quota where they had no permit. A permit of
-- which the shard is not known to have heard stays until it is: it may yet be forfeited.
-- KEYS[1] rollout tag. ARGV: attempt ids. Reply: ok.
register('release', function(keys, args)
  local tag = keys[1]
  for _, id in ipairs(args) do
    release_place(tag, id)
    redis.call('ZREM', tag .. KEY.unsettled, 's|' .. id)
    redis.call('ZREM', tag .. KEY.outstanding, id)
    spend_permit(tag, id)
  end
  return {'ok'}
end)

-- forfeit: takes back permits that no vehicle was told of, with all that their attempts hold, which ended without
-- exposure. Starts stay counted.
-- KEYS[1] rollout tag. ARGV: attempt ids. Reply: ok.
register('forfeit', function(keys, args)
  local tag = keys[1]
  for _, id in ipairs(args) do
    local permit = redis.call('HGET', tag .. KEY.permits, id)
    if permit then
      release_place(tag, id)
      redis.call('HDEL', tag .. KEY.permits, id)
      redis.call('HINCRBY', tag .. KEY.admitted, string.match(permit, '^%d+|%d+|%d+|%d|(.+)$'), -1)
      redis.call('ZREM', tag .. KEY.unsettled, 'p|' .. id)
      redis.call('ZREM', tag .. KEY.outstanding, id)
    end
  end
  return {'ok'}
end)

-- confirm: the shards know these; they are no longer unsettled.
-- KEYS[1] rollout tag. ARGV: `s|<attempt id>` of reservations and `p|<attempt id>` of permits. Reply: ok.
register('confirm', function(keys, args)
  for _, member in ipairs(args) do
    redis.call('ZREM', keys[1] .. KEY.unsettled, member)
    local kind, id = string.match(member, '^(%a)|(.+)$')
    if kind == 'p' and not load_place(keys[1], id) then spend_permit(keys[1], id) end
  end
  return {'ok'}
end)

-- unsettled: what was not confirmed for longer than an age.
-- KEYS[1] rollout tag. ARGV: age in ms of machine time, most to return.
-- Reply: ok, then of each reservation `s`, attempt id and three empty strings, of each permit `p`, attempt id, its fleet
-- time, how long an offline one is good for, else 0, and whether it is compared with controls (`1` or `0`).
register('unsettled', function(keys, args)
  local tag, reply = keys[1], {'ok'}
  local before = machine_ms() - tonumber(args[1])
  local members = redis.call('ZRANGE', tag .. KEY.unsettled, '-inf', '(' .. int(before), 'BYSCORE', 'LIMIT', '0', args[2])
  for _, member in ipairs(members) do
    local what, id = string.sub(member, 1, 1), string.sub(member, 3)
    reply[#reply + 1] = what
    reply[#reply + 1] = id
    local at, offline, paired = '', '', ''
    if what == 'p' then
      at, offline, paired = string.match(redis.call('HGET', tag .. KEY.permits, id), '^(%d+)|%d+|(%d+)|(%d)')
    end
    reply[#reply + 1] = at
    reply[#reply + 1] = offline
    reply[#reply + 1] = paired
  end
  return reply
end, true)
