local MINUTE_MS = 60000

-- authorize: permits an attempt, keyed by attempt. Within its validity a permit is repeated whatever happened since;
-- later it is asked for anew, but neither counted as a start nor against the ceiling a second time.
-- KEYS[1] rollout tag. ARGV: attempt id, epoch of its grant, most starts a minute, validity in ms, fleet time now,
-- dead-man life in ms.
-- Reply: ok, fleet time of the permit; refused by status, fenced, evaluator_silent, starts_spent, blast_budget_spent.
register('authorize', function(keys, args)
  local tag, id, epoch, starts_max = keys[1], args[1], tonumber(args[2]), tonumber(args[3])
  local valid_ms, now = tonumber(args[4]), tonumber(args[5])
  local permit = redis.call('HGET', tag .. KEY.permits, id)
  local first, latest
  if permit then
    first, latest = string.match(permit, '^(%d+)|(%d+)$')
    if now < tonumber(latest) + valid_ms then return {'ok', latest} end
  end
  local rollout, machine = control(tag), machine_ms()
  local no = status_refusal(tag, rollout)
  if no then return no end
  if epoch < rollout.fence then return refused('fenced', {epoch = epoch, fence = rollout.fence}) end
  if not alive(rollout, machine, args[6]) then return refused('evaluator_silent', {life_ms = args[6]}) end
  if not permit then
    redis.call('ZREMRANGEBYSCORE', tag .. KEY.starts, '-inf', int(now - MINUTE_MS))
    local starts = redis.call('ZCARD', tag .. KEY.starts)
    if starts >= starts_max then return refused('starts_spent', {starts = starts, limit = starts_max}) end
    local permits = redis.call('HLEN', tag .. KEY.permits)
    if permits >= rollout.ceiling then
      return refused('blast_budget_spent', {permits = permits, ceiling = rollout.ceiling})
    end
    redis.call('ZADD', tag .. KEY.starts, int(now), id)
    redis.call('ZADD', tag .. KEY.unsettled, int(machine), 'p|' .. id)
    first = int(now)
  end
  redis.call('HSET', tag .. KEY.permits, id, first .. '|' .. int(now))
  return {'ok', int(now)}
end)

-- forfeit: takes back permits that no vehicle was told of; their attempts ended without exposure. Starts stay counted.
-- KEYS[1] rollout tag. ARGV: attempt ids. Reply: ok.
register('forfeit', function(keys, args)
  local tag = keys[1]
  for _, id in ipairs(args) do
    redis.call('HDEL', tag .. KEY.permits, id)
    redis.call('ZREM', tag .. KEY.unsettled, 'p|' .. id)
  end
  return {'ok'}
end)
