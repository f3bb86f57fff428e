-- Proof that counters equal the records, on a store that is in use: somebody reads the records of a shard at leisure and
-- is told at the end, in one step with the counters, which of them changed meanwhile. And the repair of what is wrong.

-- look_begin: from now on changes of records are noted, for a life at most. What an earlier look noted goes.
-- KEYS[1] shard tag. ARGV: life in ms of machine time. Reply: ok.
register('look_begin', function(keys, args)
  local touched = keys[1] .. KEY.touched
  redis.call('DEL', touched)
  redis.call('SADD', touched, '')
  redis.call('PEXPIRE', touched, args[1])
  return {'ok'}
end)

-- look_on: records that changed since, as they are now. Where they are few, in the same step all counters, and nothing is
-- noted any more.
-- KEYS[1] shard tag. ARGV: few, life in ms from now, then rollouts whose counters are wanted beside those that ever
-- changed. Reply: unknown where the life ran out; ok, array of name, member and value (empty: gone), then while there are
-- more than a few nothing, else arrays of rollout and its counters, of profiles, of open cases, of rollouts whose changes
-- are told.
register('look_on', function(keys, args)
  local tag, few = keys[1], tonumber(args[1])
  local touched = tag .. KEY.touched
  if redis.call('EXISTS', touched) == 0 then return {'unknown'} end
  local last = redis.call('SCARD', touched) <= few + 1
  local members = last and redis.call('SMEMBERS', touched) or redis.call('SPOP', touched, few)
  local records = {}
  for _, member in ipairs(members) do
    local name, id = string.match(member, '^([^|]+)|(.+)$')
    if name then
      records[#records + 1] = name
      records[#records + 1] = id
      records[#records + 1] = redis.call('HGET', tag .. KEY[name], id) or ''
    end
  end
  if not last then
    redis.call('SADD', touched, '')
    redis.call('PEXPIRE', touched, args[2])
    return {'ok', records}
  end
  redis.call('DEL', touched)
  local told, asked, counts = redis.call('ZRANGE', tag .. KEY.changed, 0, -1), {}, {}
  for _, rollout_id in ipairs(told) do asked[rollout_id] = true end
  for index = 3, #args do asked[args[index]] = true end
  for rollout_id in pairs(asked) do
    counts[#counts + 1] = rollout_id
    counts[#counts + 1] = redis.call('HGETALL', tag .. KEY.count .. rollout_id)
  end
  return {'ok', records, counts, redis.call('HGETALL', tag .. KEY.profiles), redis.call('HGETALL', tag .. KEY.open_cases), told}
end)

-- What shall be in the due set of an attempt, by member: a time, or true where the time is not known from its record.
local function due_of(attempt)
  local id, due = attempt[ATTEMPT.attempt_id], {}
  if attempt[ATTEMPT.deadline_at] then due['d|' .. id] = attempt[ATTEMPT.deadline_at] end
  if #attempt[ATTEMPT.checkpoints] > 0 and not attempt[ATTEMPT.grant_aged] then due['g|' .. id] = true end
  if attempt[ATTEMPT.permitted_at] then
    for kind, aged in pairs({c = ATTEMPT.aged, h = ATTEMPT.habit_aged}) do
      for index, reached in ipairs(attempt[aged]) do
        if not reached then due[kind .. int(index - 1) .. '|' .. id] = true end
      end
    end
  end
  return due
end

-- When an age of an attempt is due that is missing from the due set.
local function age_at(attempt, kind, index)
  if kind == 'g' then return attempt[ATTEMPT.granted_at] + attempt[ATTEMPT.checkpoints][1] end
  local ages = attempt[kind == 'c' and ATTEMPT.checkpoints or ATTEMPT.habit_ages]
  return attempt[ATTEMPT.permitted_at] + attempt[ATTEMPT.offline] + ages[index + 1]
end

local function journal_repair(stream, at, actor, reason, about)
  about.actor = actor
  about.reason = reason
  journal(stream, 'counter_repaired', at, about)
end

-- A profile as people read it.
local function plain_profile(profile)
  return (string.gsub(string.gsub(profile, UNIT, '|'), GROUP, ';'))
end

-- check_due: what is wrong with the due set about some attempts, and puts it right if told to.
-- KEYS[1] shard tag. ARGV: `1` to repair, fleet time, actor, reason, then members of the due set.
-- Reply: ok, then member, time that stands there and time that should (empty: none) of each that is wrong.
register('check_due', function(keys, args)
  local tag, reply = keys[1], {'ok'}
  for place = 5, #args do
    local member = args[place]
    local kind, index, id = string.match(member, '^(%a)(%d*)|(.+)$')
    local attempt = kind and load_attempt(tag, id)
    local wanted = attempt and due_of(attempt)[member] or false
    local stands = redis.call('ZSCORE', tag .. KEY.due, member)
    local wrong = (wanted and not stands) or (stands and not wanted)
      or (type(wanted) == 'number' and tonumber(stands) ~= wanted)
    -- Controls have no member once they were out of the inventory at its time: only one that leads nowhere is wrong.
    if kind == 'k' or kind == 'l' then
      wrong = stands and redis.call('HEXISTS', tag .. KEY.controls, id) == 0
      wanted = false
    end
    if wrong then
      if wanted == true then wanted = age_at(attempt, kind, tonumber(index) or 0) end
      local was, is = stands and int(tonumber(stands)) or '', wanted and int(wanted) or ''
      for _, each in ipairs({member, was, is}) do reply[#reply + 1] = each end
      if args[1] == '1' then
        if wanted then redis.call('ZADD', tag .. KEY.due, is, member) else redis.call('ZREM', tag .. KEY.due, member) end
        journal_repair(tag .. KEY.journal, tonumber(args[2]), args[3], args[4],
          {counter = 'due', field = member, was = was, is = is, rollout_id = attempt and attempt[ATTEMPT.rollout_id]})
      end
    end
  end
  return reply
end)

-- check_members: who is noted under a profile and has it not, or has it and is not noted; puts it right if told to.
-- KEYS[1] shard tag. ARGV: `1` to repair, fleet time, actor, reason, then profile and vehicle id of each.
-- Reply: ok, then profile, vehicle id and whether it is noted (`1` or `0`) of each that is wrong.
register('check_members', function(keys, args)
  local tag, reply = keys[1], {'ok'}
  for place = 5, #args, 2 do
    local profile, vehicle_id = args[place], args[place + 1]
    local hot = load_present(tag, vehicle_id)
    local has = hot and profile_of(tag, redis.call('HGET', tag .. KEY.inventory, vehicle_id), hot[HOT.installed]) == profile
    local members = tag .. KEY.members .. profile
    local noted = redis.call('SISMEMBER', members, vehicle_id) == 1
    if noted ~= (has or false) then
      for _, each in ipairs({profile, vehicle_id, noted and '1' or '0'}) do reply[#reply + 1] = each end
      if args[1] == '1' then
        redis.call(noted and 'SREM' or 'SADD', members, vehicle_id)
        journal_repair(tag .. KEY.journal, tonumber(args[2]), args[3], args[4], {
          counter = 'members', field = plain_profile(profile) .. '|' .. vehicle_id, was = noted and 1 or 0,
          is = noted and 0 or 1,
        })
      end
    end
  end
  return reply
end)

-- repair_counter: corrects one field of a shard's counters by a difference, whatever was counted meanwhile.
-- KEYS[1] shard tag. ARGV: `count`, `profiles`, `open_cases` or `changed`, rollout (empty: none), field, difference, fleet
-- time, actor, reason. Reply: ok, what stood there, what stands there now.
register('repair_counter', function(keys, args)
  local tag, name, rollout_id, field, difference = keys[1], args[1], args[2], args[3], tonumber(args[4])
  local was, is = 0, 0
  if name == 'changed' then
    counted(tag, rollout_id)
    is = 1
  else
    local counters = tag .. KEY[name] .. (name == 'count' and rollout_id or '')
    was = tonumber(redis.call('HGET', counters, field)) or 0
    is = redis.call('HINCRBY', counters, field, difference)
    if name == 'count' then counted(tag, rollout_id) end
    if name == 'profiles' then profiles_counted(tag) end
    if name ~= 'count' and is <= 0 then redis.call('HDEL', counters, field) end
  end
  journal_repair(tag .. KEY.journal, tonumber(args[5]), args[6], args[7], {
    counter = name, field = plain_profile(field), was = was, is = is,
    rollout_id = rollout_id ~= '' and rollout_id or nil,
  })
  return {'ok', int(was), int(is)}
end)

-- look_places: who holds what at a rollout and how many of each are counted, in one step.
-- KEYS[1] rollout tag. No ARGV. Reply: ok, then arrays of slots, permits, in_flight, admitted, spent, unsettled and
-- outstanding.
register('look_places', function(keys)
  local tag, reply = keys[1], {'ok'}
  for _, name in ipairs({'slots', 'permits', 'in_flight', 'admitted', 'spent'}) do
    reply[#reply + 1] = redis.call('HGETALL', tag .. KEY[name])
  end
  for _, name in ipairs({'unsettled', 'outstanding'}) do
    reply[#reply + 1] = redis.call('ZRANGE', tag .. KEY[name], 0, -1)
  end
  return reply
end, true)

-- repair_place: corrects one field of a rollout's counters by a difference, or takes away what leads nowhere.
-- KEYS[1] rollout tag. ARGV: `in_flight`, `admitted`, `spent`, `unsettled` or `outstanding`, field, difference, fleet time,
-- actor, reason. Reply: ok, what stood there, what stands there now.
register('repair_place', function(keys, args)
  local tag, name, field = keys[1], args[1], args[2]
  local was, is = 1, 0
  if name == 'unsettled' or name == 'outstanding' then
    redis.call('ZREM', tag .. KEY[name], field)
  else
    was = tonumber(redis.call('HGET', tag .. KEY[name], field)) or 0
    is = redis.call('HINCRBY', tag .. KEY[name], field, args[3])
  end
  journal_repair(tag .. KEY.log, tonumber(args[4]), args[5], args[6],
    {counter = name, field = field, was = was, is = is, rollout_id = string.sub(tag, 4, -2)})
  return {'ok', int(was), int(is)}
end)

-- pack_ended: moves attempts into their vehicles' records that were over before builds did so by themselves.
-- KEYS[1] shard tag. ARGV: attempt ids. Reply: ok, how many were moved.
register('pack_ended', function(keys, args)
  local tag, moved = keys[1], 0
  for _, id in ipairs(args) do
    local attempt = load(tag, 'attempts', id, ATTEMPT)
    if attempt and is_settled(attempt) then
      keep_attempt(tag, attempt)
      moved = moved + 1
    end
  end
  return {'ok', int(moved)}
end)

-- spend_permits: lets permits be a number whose attempts were released before builds did so by themselves.
-- KEYS[1] rollout tag. ARGV: attempt ids. Reply: ok, how many permits are kept one by one now.
register('spend_permits', function(keys, args)
  local tag = keys[1]
  for _, id in ipairs(args) do
    if not load_place(tag, id) then spend_permit(tag, id) end
  end
  return {'ok', int(redis.call('HLEN', tag .. KEY.permits))}
end)
