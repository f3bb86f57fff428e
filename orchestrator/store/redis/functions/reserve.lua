-- The rollout's control fields: status, epoch, fence, and machine time until which its evaluator counts as alive.
local function control(tag)
  local values = redis.call('HMGET', tag .. KEY.rollout, 'status', 'epoch', 'fence', 'alive_until', 'ceiling')
  return {
    status = values[1], epoch = tonumber(values[2]), fence = tonumber(values[3]),
    alive_until = tonumber(values[4]) or 0, ceiling = tonumber(values[5]) or 0,
  }
end

local function status_refusal(tag, rollout)
  local id = string.sub(tag, 4, -2)
  if not rollout.status then return refused('rollout_over', {rollout_id = id, status = 'not known'}) end
  local reason = REFUSED_BY_STATUS[rollout.status]
  return reason and refused(reason, {rollout_id = id, status = rollout.status})
end

-- Whether the evaluator gave a sign of life within `life` of machine time. One that reaches further than a life from now
-- was given before the clock was set back, and says nothing.
local function alive(rollout, now, life)
  return now < rollout.alive_until and rollout.alive_until - now <= tonumber(life)
end

-- reserve: takes an in-flight slot, keyed by attempt. A repetition finds its slot, but still asks for leave.
-- KEYS[1] rollout tag. ARGV: attempt id, region, limit of the region, limit in all, epoch, dead-man life in ms.
-- Reply: ok; refused by status, stale_epoch, evaluator_silent, in_flight_spent.
register('reserve', function(keys, args)
  local tag, id, region, region_max, total_max, epoch = keys[1], args[1], args[2], tonumber(args[3]), tonumber(args[4]),
    tonumber(args[5])
  local rollout, now = control(tag), machine_ms()
  local no = status_refusal(tag, rollout)
  if no then return no end
  if epoch ~= rollout.epoch then return refused('stale_epoch', {epoch = epoch, current = rollout.epoch}) end
  if not alive(rollout, now, args[6]) then return refused('evaluator_silent', {life_ms = args[6]}) end
  if redis.call('HEXISTS', tag .. KEY.slots, id) == 1 then return {'ok'} end
  local held = redis.call('HMGET', tag .. KEY.in_flight, region, '*')
  local in_region, in_all = tonumber(held[1]) or 0, tonumber(held[2]) or 0
  if in_region >= region_max then
    return refused('in_flight_spent', {scope = region, in_flight = in_region, limit = region_max})
  end
  if in_all >= total_max then
    return refused('in_flight_spent', {scope = 'all regions', in_flight = in_all, limit = total_max})
  end
  redis.call('HSET', tag .. KEY.slots, id, region)
  redis.call('HINCRBY', tag .. KEY.in_flight, region, 1)
  redis.call('HINCRBY', tag .. KEY.in_flight, '*', 1)
  redis.call('ZADD', tag .. KEY.unsettled, int(now), 's|' .. id)
  return {'ok'}
end)

-- release: returns the slots of these, once each.
-- KEYS[1] rollout tag. ARGV: attempt ids. Reply: ok.
register('release', function(keys, args)
  local tag = keys[1]
  for _, id in ipairs(args) do
    local region = redis.call('HGET', tag .. KEY.slots, id)
    if region then
      redis.call('HDEL', tag .. KEY.slots, id)
      redis.call('HINCRBY', tag .. KEY.in_flight, region, -1)
      redis.call('HINCRBY', tag .. KEY.in_flight, '*', -1)
      redis.call('ZREM', tag .. KEY.unsettled, 's|' .. id)
    end
  end
  return {'ok'}
end)

-- confirm: the shards know these; they are no longer unsettled.
-- KEYS[1] rollout tag. ARGV: `s|<attempt id>` of reservations and `p|<attempt id>` of permits. Reply: ok.
register('confirm', function(keys, args)
  for _, member in ipairs(args) do redis.call('ZREM', keys[1] .. KEY.unsettled, member) end
  return {'ok'}
end)

-- unsettled: what was not confirmed for longer than an age.
-- KEYS[1] rollout tag. ARGV: age in ms of machine time, most to return.
-- Reply: ok, then `s`, attempt id and empty string of each reservation, `p`, attempt id and fleet time of each permit.
register('unsettled', function(keys, args)
  local tag, reply = keys[1], {'ok'}
  local before = machine_ms() - tonumber(args[1])
  local members = redis.call('ZRANGE', tag .. KEY.unsettled, '-inf', '(' .. int(before), 'BYSCORE', 'LIMIT', '0', args[2])
  for _, member in ipairs(members) do
    local what, id = string.sub(member, 1, 1), string.sub(member, 3)
    reply[#reply + 1] = what
    reply[#reply + 1] = id
    reply[#reply + 1] = what == 'p' and string.match(redis.call('HGET', tag .. KEY.permits, id), '^%d+') or ''
  end
  return reply
end, true)
