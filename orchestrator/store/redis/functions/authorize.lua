-- The refusal of one more start in a zset of starts; `scope` is nil for all regions. Starts are kept for twice as long
-- as they count: another caller's clock may be behind, and its minute begin earlier.
local function no_start(starts, most, scope, now)
  redis.call('ZREMRANGEBYSCORE', starts, '-inf', int(now - 2 * MINUTE_MS))
  local found = redis.call('ZCOUNT', starts, '(' .. int(now - MINUTE_MS), '+inf')
  if found < tonumber(most) then return nil end
  return refused('starts_spent', {scope = scope, starts = found, limit = most})
end

-- The refusal of more permits than the ceiling.
local function no_budget(tag, ceiling)
  local permits = count_permits(tag)
  if permits < ceiling then return nil end
  return refused('blast_budget_spent', {permits = permits, ceiling = ceiling})
end

-- authorize: permits an attempt, keyed by attempt. While it is good a permit is repeated as it was given, whatever
-- happened since; later it is asked for anew, but neither counted as a start nor against the ceiling a second time. So is
-- one that a caller was ahead of this one to give, by more than an ordinary one is good for: its age is not known. An
-- attempt that was suspended takes a slot again, one that stood aside a place in the quota as well. One that is to stand
-- aside gets no permit where it would get one, and gives back both.
-- KEYS[1] rollout tag. ARGV: attempt id, region, hardware, cohort, epoch of its grant, limit of the region, limit in all,
-- most starts a minute, most in the region, how long an ordinary permit is good for in ms, how long the offline one that
-- is asked for (0: an ordinary one is), fleet time now, dead-man life in ms, quota of the cell (empty: none), whether it
-- is to stand aside (`1` or `0`), whether it is compared with controls (`1` or `0`), whether one that it has is
-- repeated (`1` or `0`).
-- Reply: ok, fleet time of the permit, how long an offline one is good for, else 0, whether it is compared, as at the
-- first; refused by status or brake, fenced,
-- evaluator_silent, attempt_over (it has no place, which an attempt has from its reservation on until it is over),
-- in_flight_spent, quota_spent, starts_spent, blast_budget_spent, watched.
register('authorize', function(keys, args)
  local tag, id, cell, epoch = keys[1], args[1], cell_of(args, 2), tonumber(args[5])
  local valid_ms, offline_ms, now = tonumber(args[10]), tonumber(args[11]), tonumber(args[12])
  local permit = redis.call('HGET', tag .. KEY.permits, id)
  local first, latest, offline, paired = int(now), nil, nil, args[16]
  if permit then
    first, latest, offline, paired = string.match(permit, '^(%d+)|(%d+)|(%d+)|(%d)')
    local good_ms = offline ~= '0' and tonumber(offline) or valid_ms
    local knows_age = args[17] ~= '0' and now > tonumber(latest) - valid_ms
    if knows_age and now < tonumber(latest) + good_ms then return {'ok', latest, offline, paired} end
  end
  local rollout, machine = control(tag, cell), machine_ms()
  local no = standstill(tag, rollout)
  if no then return no end
  if epoch < rollout.fence then return refused('fenced', {epoch = epoch, fence = rollout.fence}) end
  if not alive(rollout, machine, args[13]) then return refused('evaluator_silent', {life_ms = args[13]}) end
  if not permit then
    local place, starts = load_place(tag, id), tag .. KEY.starts
    local starts_in_region = tag .. KEY.region_starts .. cell.region
    if not place then return refused('attempt_over', {attempt_id = id, state = 'released'}) end
    no = (not place.taken and no_slot(tag, cell.region, args[6], args[7]))
      or (not is_counted(place) and no_quota(tag, cell, args[14]))
      or no_start(starts, args[8], nil, now) or no_start(starts_in_region, args[9], cell.region, now)
      or no_budget(tag, rollout.ceiling)
    if no then return no end
    if args[15] == '1' then
      stand_aside(tag, id, place)
      redis.call('ZREM', tag .. KEY.unsettled, 's|' .. id)
      return refused('watched', {})
    end
    -- Also where it holds one: a deferral from before this permit must not give it back.
    take_place(tag, id, place, cell, machine)
    redis.call('HINCRBY', tag .. KEY.in_flight, AT_RISK, -1)
    redis.call('ZADD', starts, int(now), id)
    redis.call('ZADD', starts_in_region, int(now), id)
    redis.call('ZADD', tag .. KEY.unsettled, int(machine), 'p|' .. id)
  end
  redis.call('HSET', tag .. KEY.permits, id, table.concat({first, int(now), int(offline_ms), paired, cell.name}, '|'))
  redis.call('ZREMRANGEBYSCORE', tag .. KEY.outstanding, '-inf', int(now))
  -- Of an attempt that is over it is nobody's: the shard will not know it.
  if load_place(tag, id) then
    redis.call('ZADD', tag .. KEY.outstanding, int(now + (offline_ms > 0 and offline_ms or valid_ms)), id)
  end
  return {'ok', int(now), int(offline_ms), paired}
end)
