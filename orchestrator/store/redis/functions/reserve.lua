-- The rollout's control fields: status, epoch, fence, ceilings, machine time until which its evaluator counts as alive;
-- and, where a cell is given, the fence and the worst brake on it.
local function control(tag, cell)
  local region, stratum = cell and cell.region or '', cell and cell.stratum or ''
  local values = redis.call('HMGET', tag .. KEY.rollout, 'status', 'epoch', 'fence', 'alive_until', 'ceiling',
    'grant_ceiling', 'fence:' .. region, 'fence:' .. stratum, 'brake:' .. region, 'brake:' .. stratum,
    'fence:' .. OTHER, 'brake:' .. OTHER, 'apart:' .. stratum)
  local rollout = {
    status = values[1], epoch = tonumber(values[2]), alive_until = tonumber(values[4]) or 0,
    fence = math.max(tonumber(values[3]) or 0, tonumber(values[7]) or 0, tonumber(values[8]) or 0),
    ceiling = tonumber(values[5]) or 0, grant_ceiling = tonumber(values[6]) or 0,
    brake = values[9], braked = region,
  }
  if (BRAKE_RANK[values[10]] or 0) > (BRAKE_RANK[rollout.brake] or 0) then
    rollout.brake = values[10]
    rollout.braked = stratum
  end
  -- A stratum that is not judged apart shares what stands on the others, also where nobody had counted it yet.
  if not values[13] then
    rollout.fence = math.max(rollout.fence, tonumber(values[11]) or 0)
    if (BRAKE_RANK[values[12]] or 0) > (BRAKE_RANK[rollout.brake] or 0) then
      rollout.brake = values[12]
      rollout.braked = OTHER
    end
  end
  return rollout
end

-- The refusal by the rollout's status, or by a brake on a part of it.
local function standstill(tag, rollout)
  local id = string.sub(tag, 4, -2)
  if not rollout.status then return refused('rollout_over', {rollout_id = id, status = 'not known'}) end
  local reason = REFUSED_BY_STATUS[rollout.status]
  if reason then return refused(reason, {rollout_id = id, status = rollout.status}) end
  if rollout.brake then return refused(REFUSED_BY_BRAKE[rollout.brake], {rollout_id = id, scope = rollout.braked}) end
  return nil
end

-- Whether the evaluator gave a sign of life within `life` of machine time. One that reaches further than a life from now
-- was given before the clock was set back, and says nothing.
local function alive(rollout, now, life)
  return now < rollout.alive_until and rollout.alive_until - now <= tonumber(life)
end

-- The refusal of a cell without a place in its quota; an empty quota is none.
local function no_quota(tag, cell, quota)
  if quota == '' then return nil end
  local admitted = tonumber(redis.call('HGET', tag .. KEY.admitted, cell.name)) or 0
  if admitted < tonumber(quota) then return nil end
  return refused('quota_spent', {cell = string.gsub(cell.name, '|', '/'), admitted = admitted, quota = quota})
end

-- The refusal of more slots without a permit than the evaluator lets be at risk.
local function no_risk(tag, ceiling)
  local at_risk = tonumber(redis.call('HGET', tag .. KEY.in_flight, AT_RISK)) or 0
  if at_risk < ceiling then return nil end
  return refused('blast_budget_spent', {at_risk = at_risk, ceiling = ceiling})
end

-- Gives away the bandwidth of a region for a transfer, or refuses when it is given away too far ahead.
local function no_bandwidth(tag, region, transfer_ms, now)
  if transfer_ms == 0 then return nil end
  local busy_until = tonumber(redis.call('HGET', tag .. KEY.links, region)) or 0
  local ahead = busy_until - now
  if ahead > BANDWIDTH_AHEAD_MS then
    return refused('bandwidth_spent', {scope = region, ahead_ms = ahead, limit_ms = BANDWIDTH_AHEAD_MS})
  end
  redis.call('HSET', tag .. KEY.links, region, int(math.max(busy_until, now) + transfer_ms))
  return nil
end

-- reserve: takes an in-flight slot, keyed by attempt. A repetition finds its slot, but still asks for leave.
-- KEYS[1] rollout tag. ARGV: attempt id, region, hardware, cohort, epoch, limit of the region, limit in all, quota of the
-- cell (empty: none), transfer in ms of the region's bandwidth, fleet time now, dead-man life in ms.
-- Reply: ok; refused by status or brake, stale_epoch, evaluator_silent, in_flight_spent, quota_spent,
-- blast_budget_spent, bandwidth_spent.
register('reserve', function(keys, args)
  local tag, id, cell, epoch = keys[1], args[1], cell_of(args, 2), tonumber(args[5])
  local rollout, machine = control(tag, cell), machine_ms()
  local no = standstill(tag, rollout)
  if no then return no end
  if epoch ~= rollout.epoch then return refused('stale_epoch', {epoch = epoch, current = rollout.epoch}) end
  if not alive(rollout, machine, args[11]) then return refused('evaluator_silent', {life_ms = args[11]}) end
  local place = load_place(tag, id)
  if place and place.taken then return {'ok'} end
  no = no_slot(tag, cell.region, args[6], args[7]) or (not is_counted(place) and no_quota(tag, cell, args[8]))
    or no_risk(tag, rollout.grant_ceiling) or no_bandwidth(tag, cell.region, tonumber(args[9]), tonumber(args[10]))
  if no then return no end
  take_place(tag, id, place, cell, machine)
  redis.call('ZADD', tag .. KEY.unsettled, int(machine), 's|' .. id)
  return {'ok'}
end)
