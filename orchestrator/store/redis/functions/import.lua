-- import: adds or replaces inventory; keeps what is known of a vehicle that stands already.
-- KEYS[1] shard tag. ARGV: fleet time now, then vehicle id and packed inventory of each.
-- Reply: ok, added, changed, unchanged.
register('import', function(keys, args)
  local tag, now = keys[1], tonumber(args[1])
  local added, changed, unchanged = 0, 0, 0
  for index = 2, #args, 2 do
    local vehicle_id, packed = args[index], args[index + 1]
    local before = redis.call('HGET', tag .. KEY.inventory, vehicle_id)
    if before == packed then
      unchanged = unchanged + 1
    else
      local hot = load_hot(tag, vehicle_id)
      if before then
        changed = changed + 1
        count_profile(tag, cmsgpack.unpack(before), hot[HOT.installed], -1)
      else
        added = added + 1
        hot = {SCHEMA, false, '', '', 0, '', 0, {0, 0, 0, 0, ''}, {}, ''}
        save(tag, 'hot', vehicle_id, hot)
        -- What was written behind about somebody who was not in the inventory does not count.
        redis.call('HDEL', tag .. KEY.seen, vehicle_id)
      end
      redis.call('HSET', tag .. KEY.inventory, vehicle_id, packed)
      count_profile(tag, cmsgpack.unpack(packed), hot[HOT.installed], 1)
    end
  end
  if added + changed > 0 then
    journal(tag .. KEY.journal, 'vehicles_imported', now, {added = added, changed = changed})
  end
  return {'ok', int(added), int(changed), int(unchanged)}
end)
