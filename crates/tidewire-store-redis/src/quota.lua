
-- Quotas ---------------------------------------------------------------------------------------

-- KEYS of both: what each node has of a tenant's quotas (hash: "node until connections", then for
-- each rate what is asked for and what was granted)

local QUOTA_RATES = 3

-- The parts that others have. One that ends later than any lease would is of a clock that was ahead.
local function quota_parts(key, me, now, ttl)
  local parts = {}
  for _, text in ipairs(redis.call('HVALS', key)) do
    local node, ends, rest = string.match(text, '^(%S+) (%d+) (.+)$')
    if not node then
      error({ err = 'CORRUPT a part of a quota' })
    end
    if tonumber(ends) <= now or tonumber(ends) > now + 2 * ttl then
      redis.call('HDEL', key, node)
    elseif node ~= me then
      local numbers = {}
      for number in string.gmatch(rest, '%d+') do
        numbers[#numbers + 1] = tonumber(number)
      end
      parts[#parts + 1] = numbers
    end
  end
  return parts
end

local function quota_sum(parts, index)
  local sum = 0
  for _, part in ipairs(parts) do
    sum = sum + (part[index] or 0)
  end
  return sum
end

-- What it needs and an equal part of the rest where there is enough, else nine tenths by need and one
-- tenth alike; not more than the others have left, but a part of a tenth more in any case.
local function quota_share(limit, own, demand, taken, nodes)
  local tenth = math.floor(limit / (10 * nodes))
  local all, fair = own + demand, nil
  if all <= limit then
    fair = own + math.floor((limit - all) / nodes)
  else
    fair = math.floor(limit * 9 * own / (10 * all)) + tenth
  end
  local spare = limit + math.floor(limit / 10) - taken
  return math.max(math.min(fair, limit - taken), math.min(tenth, spare), 1)
end

-- ARGV: node, ttl, connections held, connections wanted, what is asked for of each rate, the quota of
--       connections and of each rate, or '' where there is none
-- Returns how many nodes there are, connections, each rate.
local function quota_settle(keys, args)
  local node, ttl, held, wanted = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  local now = clock()
  local parts = quota_parts(keys[1], node, now, ttl)
  local nodes = #parts + 1
  local limit, granted = tonumber(args[5 + QUOTA_RATES]), nil
  if limit then
    granted = math.max(held, math.min(wanted, limit - quota_sum(parts, 1)))
  end
  local mine = { node, whole(now + ttl), whole(granted or 0) }
  local reply = { 'OK', nodes, granted and whole(granted) or '' }
  for rate = 1, QUOTA_RATES do
    local own, quota, share = tonumber(args[4 + rate]), tonumber(args[5 + QUOTA_RATES + rate]), nil
    if quota then
      local demand, taken = quota_sum(parts, 2 * rate), quota_sum(parts, 2 * rate + 1)
      share = quota_share(quota, own, demand, taken, nodes)
    end
    mine[#mine + 1] = whole(own)
    mine[#mine + 1] = whole(share or 0)
    reply[#reply + 1] = share and whole(share) or ''
  end
  redis.call('HSET', keys[1], node, table.concat(mine, ' '))
  redis.call('PEXPIRE', keys[1], whole(4 * ttl))
  return reply
end

-- ARGV: node
local function quota_withdraw(keys, args)
  redis.call('HDEL', keys[1], args[1])
  return { 'OK' }
end

register_essential('tidewire_VERSION_quota_settle', quota_settle)
register_essential('tidewire_VERSION_quota_withdraw', quota_withdraw)
