-- Inventory records of one shard, `<number of the shape>|<units>`, and the shapes that they share.

-- The number under which a shape is kept, or nil where it is new.
local function number_of(tag, shape)
  return redis.call('HGET', tag .. KEY.shape_numbers, shape) or nil
end

-- The same; a new shape gets the next number. Shapes are never taken back: there are as many as kinds of vehicles.
local function keep_shape(tag, shape)
  local number = number_of(tag, shape)
  if number then return number end
  number = int(redis.call('HLEN', tag .. KEY.shapes) + 1)
  redis.call('HSET', tag .. KEY.shapes, number, shape)
  redis.call('HSET', tag .. KEY.shape_numbers, shape, number)
  return number
end

local function shape_number(inventory)
  return string.match(inventory, '^%d+')
end

local function packed_shape(tag, inventory)
  return redis.call('HGET', tag .. KEY.shapes, shape_number(inventory))
end

local function load_shape(tag, inventory)
  local shape = cmsgpack.unpack(packed_shape(tag, inventory))
  if shape[SHAPE.schema] ~= SCHEMA then
    error('a shape has schema ' .. tostring(shape[SHAPE.schema]) .. ', this library reads ' .. SCHEMA)
  end
  return shape
end

-- Notes that vehicles by profile changed, so that `tally` returns them.
local function profiles_counted(tag)
  redis.call('SET', tag .. KEY.profiles_change, redis.call('INCR', tag .. KEY.change))
end

-- The profile of a vehicle: what it is and what it runs.
local function profile_of(tag, inventory, installed)
  local shape = load_shape(tag, inventory)
  return table.concat({
    shape[SHAPE.model], shape[SHAPE.hardware], shape[SHAPE.region], shape[SHAPE.cohort],
    table.concat(shape[SHAPE.tags], GROUP), installed, shape[SHAPE.zone],
  }, UNIT)
end

-- Counts vehicles by a profile, and notes who they are; some hundreds at most, as all of them go into one command.
local function join_profile(tag, profile, ids)
  redis.call('HINCRBY', tag .. KEY.profiles, profile, #ids)
  redis.call('SADD', tag .. KEY.members .. profile, unpack(ids))
  profiles_counted(tag)
end

-- The same of vehicles that have the profile no longer.
local function leave_profile(tag, profile, ids)
  if redis.call('HINCRBY', tag .. KEY.profiles, profile, -#ids) <= 0 then
    redis.call('HDEL', tag .. KEY.profiles, profile)
  end
  redis.call('SREM', tag .. KEY.members .. profile, unpack(ids))
  profiles_counted(tag)
end
