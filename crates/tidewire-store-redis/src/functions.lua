#!lua name=tidewire_VERSION

-- The functions of the log and the stores. VERSION is replaced by a hash of this text, in the name
-- of the library and of every function, so that nodes of two releases can share one Redis.
--
-- A function is one atomic step, and replicates as one. All times are milliseconds.

local MINUTE = 60 * 1000
local HOUR = 60 * MINUTE

-- An id is remembered for this long at least, and twice as long at most.
local DEDUPE_WINDOW = 2 * MINUTE

-- How far an incarnation may be ahead of this server's clock.
local CLOCK_TOLERANCE = 10 * MINUTE

local MAX_ERAS = 8

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Publications get a time that never goes back while this process lives.
local newest_stamp = 0
local function stamp(now)
  newest_stamp = math.max(newest_stamp, now)
  return newest_stamp
end

local function whole(number)
  return string.format('%.0f', number)
end

local function base36(number, width)
  local digits = {}
  for place = width, 1, -1 do
    local digit = number % 36
    digits[place] = string.sub('0123456789abcdefghijklmnopqrstuvwxyz', digit + 1, digit + 1)
    number = (number - digit) / 36
  end
  return table.concat(digits)
end

-- The fence ------------------------------------------------------------------------------------

-- Kept per process: after a restart or a failover another process runs this, and asks again.
local run_id
local function server_run_id()
  if not run_id then
    run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  end
  return run_id
end

local function started(incarnation)
  return tonumber(string.sub(incarnation, 1, 8), 36)
end

-- Not by comparing the strings: that depends on the server's locale.
local function is_older(incarnation, than)
  local left, right = started(incarnation), started(than)
  if left ~= right then
    return left < right
  end
  return tonumber(string.sub(incarnation, 9), 36) < tonumber(string.sub(than, 9), 36)
end

-- The incarnation this process may write under, or nil if the caller has seen a newer one: then
-- this may be a deposed primary, and nothing is written. `raise` overrules that, once the caller
-- has made sure that this is the primary.
local function fence(key, seen, raise, nonce, now)
  local me = server_run_id()
  local stored = redis.call('GET', key) or '000000000000'
  local incarnation = string.sub(stored, 1, 12)
  if string.sub(stored, 14) == me then
    if incarnation == seen or not is_older(incarnation, seen) then
      return incarnation
    end
    if not raise then
      return nil
    end
  end
  if started(seen) > now + CLOCK_TOLERANCE then
    return nil, redis.error_reply('AHEAD the nodes have seen an incarnation from the future')
  end
  local start = math.max(now, started(incarnation) + 1, started(seen) + 1)
  incarnation = base36(start, 8) .. string.sub(nonce, 1, 4)
  redis.call('SET', key, incarnation .. ' ' .. me)
  return incarnation
end

-- Runs `work` under an incarnation. Every fenced function has these four arguments first.
local function fenced(work)
  return function(keys, args)
    local now = clock()
    local call = { now = now, nonce = args[2], ttl = tonumber(args[4]) }
    local incarnation, problem = fence(keys[1], args[1], args[3] == '1', args[2], now)
    if problem then
      return problem
    end
    if not incarnation then
      return { 'BEHIND' }
    end
    call.incarnation = incarnation
    return work(call, keys, args)
  end
end

-- A channel ------------------------------------------------------------------------------------

-- A channel nobody has published to is soon forgotten, any other a day after its log has run out.
-- Written down with the hour it was last done, because asking is free and PEXPIRE is not.
local function keep_numbering(channel, call)
  local used = channel.top > 0
  local age = call.now - channel.touched
  if age >= 0 and age < (used and HOUR or 15 * MINUTE) and used == channel.was_used then
    return
  end
  redis.call('HSET', channel.meta, 'm', whole(call.now))
  redis.call('PEXPIRE', channel.meta, whole(used and 24 * HOUR + call.ttl or HOUR))
end

local function eras_of(lineage)
  local eras = {}
  for epoch, first in string.gmatch(lineage, '(%w+):(%d+)') do
    eras[#eras + 1] = { epoch = epoch, first = tonumber(first) }
  end
  return eras
end

local function begin_epoch(channel, call)
  channel.epoch = call.incarnation .. string.sub(call.nonce, 5, 8)
  local eras = eras_of(channel.lineage)
  eras[#eras + 1] = { epoch = channel.epoch, first = channel.top + 1 }
  local kept = {}
  for index = math.max(1, #eras - MAX_ERAS + 1), #eras do
    kept[#kept + 1] = eras[index].epoch .. ':' .. whole(eras[index].first)
  end
  channel.lineage = table.concat(kept, ' ')
  redis.call('HSET', channel.meta, 't', whole(channel.top), 'e', channel.epoch, 'l', channel.lineage)
end

-- A channel as of this incarnation: at its first touch in a new one, an epoch begins.
local function open(meta, log, call)
  local fields = redis.call('HMGET', meta, 't', 'e', 'l', 'm', 'x')
  local channel = {
    meta = meta,
    log = log,
    top = tonumber(fields[1] or '0'),
    epoch = fields[2] or '',
    lineage = fields[3] or '',
    touched = tonumber(fields[4] or '0') or 0,
    appended = tonumber(fields[5] or '0') or 0,
  }
  if not fields[3] then
    redis.call('DEL', meta, log)
    channel.top = 0
  elseif not channel.top or #channel.epoch ~= 16 then
    return nil, redis.error_reply('CORRUPT the numbering of a channel')
  end
  channel.was_used = channel.top > 0
  if string.sub(channel.epoch, 1, 12) ~= call.incarnation then
    begin_epoch(channel, call)
  end
  return channel
end

local function epoch_of(channel, offset)
  local eras = eras_of(channel.lineage)
  for index = #eras, 1, -1 do
    if eras[index].first <= offset then
      return eras[index].epoch
    end
  end
  return eras[1].epoch
end

local function offset_of(id)
  return tonumber(string.match(id, '^(%d+)-'))
end

-- Appending ------------------------------------------------------------------------------------

-- An entry's field `m` is the time, a zero byte, one character for the kind, eight for the batch,
-- four for the place in it, and what else the node wrote.
local function stamp_and_batch(entry)
  local time, batch = string.match(entry[2][2], '^(%d+)%z.(' .. string.rep('.', 12) .. ')')
  return tonumber(time), batch
end

-- Finds what an earlier try of the same batch has stored, by going back through the entries made
-- since. Returns the entries by place, and whether that is all there can be.
local function find_batch(channel, call, batch, elapsed, size)
  local found, any = {}, false
  local before = '+'
  local cutoff = call.now - elapsed - 1000
  while true do
    local entries = redis.call('XREVRANGE', channel.log, before, '-', 'COUNT', 32)
    for _, entry in ipairs(entries) do
      local time, name = stamp_and_batch(entry)
      if not time or time < cutoff then
        return found, true, any
      end
      if string.sub(name, 1, 8) == batch then
        found[tonumber(string.sub(name, 9), 36)] = { offset = offset_of(entry[1]), time = time }
        any = true
      end
    end
    if #entries < 32 then
      return found, redis.call('XLEN', channel.log) < size, any
    end
    before = '(' .. entries[#entries][1]
  end
end

-- Where the publication with this id was stored before, as epoch and offset. If it was not, the id
-- is taken for the next offset.
local function find_or_take_id(channel, buckets, field)
  local known = redis.call('HGET', buckets.previous, field)
  if not known then
    local next_position = channel.epoch .. whole(channel.top + 1)
    if redis.call('HSETNX', buckets.current, field, next_position) == 1 then
      buckets.used = true
      return nil
    end
    known = redis.call('HGET', buckets.current, field)
  end
  local epoch, offset = string.sub(known, 1, 16), tonumber(string.sub(known, 17))
  if string.find(channel.lineage, epoch, 1, true) then
    return epoch, offset
  end
  -- The channel has lost its numbering since, and the publication with it.
  redis.call('HDEL', buckets.previous, field)
  redis.call('HSET', buckets.current, field, channel.epoch .. whole(channel.top + 1))
  buckets.used = true
  return nil
end

local function time_of(channel, offset, otherwise)
  local id = whole(offset) .. '-0'
  local entry = redis.call('XRANGE', channel.log, id, id)[1]
  return entry and stamp_and_batch(entry) or otherwise
end

local function finish_append(channel, call, buckets)
  if buckets.used then
    redis.call('PEXPIRE', buckets.current, 3 * DEDUPE_WINDOW, 'NX')
  end
  -- Refreshed with an eighth to spare, so that most appends need not.
  local age = call.now - channel.appended
  if age < 0 or age >= call.ttl / 8 then
    redis.call('HSET', channel.meta, 't', whole(channel.top), 'x', whole(call.now))
    redis.call('PEXPIRE', channel.log, whole(math.ceil(call.ttl * 9 / 8)))
  else
    redis.call('HSET', channel.meta, 't', whole(channel.top))
  end
  keep_numbering(channel, call)
end

-- KEYS: fence, meta, log, prefix of the dedupe buckets
-- ARGV: seen, nonce, raise, ttl, size, batch, milliseconds since the first try or '', and for each
--       draft: dedupe field or '', rest of `m`, payload
-- Returns for each draft: epoch, offset, whether it is a duplicate, time.
local function append(call, keys, args)
  local channel, problem = open(keys[2], keys[3], call)
  if problem then
    return problem
  end
  local size = tonumber(args[5])
  local found, conclusive, any = {}, true, false
  if args[7] ~= '' then
    found, conclusive, any = find_batch(channel, call, args[6], tonumber(args[7]), size)
    for index = 8, #args, 3 do
      local is_lost = args[index] == '' and not found[(index - 8) / 3]
      if is_lost and (any or not conclusive) then
        return { 'UNKNOWN' }
      end
    end
  end

  local bucket = math.floor(call.now / DEDUPE_WINDOW)
  local buckets = { current = keys[4] .. whole(bucket), previous = keys[4] .. whole(bucket - 1) }
  local now, first_new = stamp(call.now), channel.top + 1
  local results = { 'OK', call.incarnation }
  local function answer(epoch, offset, is_duplicate, time)
    local count = #results
    results[count + 1], results[count + 2] = epoch, offset
    results[count + 3], results[count + 4] = is_duplicate, time
  end

  for index = 8, #args, 3 do
    local field, before = args[index], found[(index - 8) / 3]
    local epoch, offset
    if not before and field ~= '' then
      epoch, offset = find_or_take_id(channel, buckets, field)
    end
    if before then
      answer(epoch_of(channel, before.offset), before.offset, 0, before.time)
    elseif epoch then
      answer(epoch, offset, 1, time_of(channel, offset, now))
    else
      local id = whole(channel.top + 1) .. '-0'
      local stored = redis.pcall('XADD', channel.log, 'MAXLEN', '~', size, id,
        'm', whole(now) .. '\0' .. args[index + 1], 'p', args[index + 2])
      if type(stored) == 'table' and stored.err then
        -- Only the first entry of a batch can fail, when something else has written to the log.
        if field ~= '' then
          redis.call('HDEL', buckets.current, field)
        end
        return redis.error_reply('CORRUPT the log of a channel: ' .. stored.err)
      end
      channel.top = channel.top + 1
      answer(channel.epoch, channel.top, 0, now)
    end
  end
  if channel.top >= first_new then
    finish_append(channel, call, buckets)
  end
  return results
end

-- Reading --------------------------------------------------------------------------------------

-- Where a position stands: Continues, reWound to, or unknown (X), and the offset to go on from.
local function locate(channel, epoch, offset)
  if epoch == channel.epoch and offset <= channel.top then
    return 'C', offset
  end
  local eras = eras_of(channel.lineage)
  for index, era in ipairs(eras) do
    if era.epoch == epoch then
      local last = eras[index + 1] and eras[index + 1].first - 1 or channel.top
      if offset <= last then
        return 'C', offset
      end
      return 'W', last
    end
  end
  return 'X', channel.top
end

-- KEYS: fence, meta, log
-- ARGV: seen, nonce, raise, ttl, limit, 'now' | 'last' | 'position', count or epoch, offset
-- Returns status, base, top, lineage, entries. The status is one of locate's, Fresh, or Trimmed.
local function read(call, keys, args)
  local channel, problem = open(keys[2], keys[3], call)
  if problem then
    return problem
  end
  keep_numbering(channel, call)
  local status, base = 'F', channel.top
  if args[6] == 'last' then
    base = math.max(channel.top - tonumber(args[7]), 0)
  elseif args[6] == 'position' then
    status, base = locate(channel, args[7], tonumber(args[8]))
  end
  local entries = {}
  if base < channel.top then
    entries = redis.call('XRANGE', channel.log, whole(base + 1) .. '-0', '+', 'COUNT', args[5])
    local first = entries[1] and offset_of(entries[1][1]) or channel.top + 1
    if first > base + 1 then
      base = first - 1
      status = status == 'F' and 'F' or 'T'
    end
  end
  return { 'OK', call.incarnation, status, base, channel.top, channel.lineage, entries }
end

-- KEYS: fence, meta, log
-- ARGV: seen, nonce, raise, ttl, count, 'forward' | 'backward', epoch or '', offset
-- Returns top, lineage, entries.
local function page(call, keys, args)
  local channel, problem = open(keys[2], keys[3], call)
  if problem then
    return problem
  end
  keep_numbering(channel, call)
  local forward, count = args[6] == 'forward', args[5]
  local function answer(entries)
    return { 'OK', call.incarnation, channel.top, channel.lineage, entries }
  end
  if args[7] == '' then
    if forward then
      return answer(redis.call('XRANGE', channel.log, '-', '+', 'COUNT', count))
    end
    return answer(redis.call('XREVRANGE', channel.log, '+', '-', 'COUNT', count))
  end
  local status, offset = locate(channel, args[7], tonumber(args[8]))
  if status ~= 'C' then
    return answer({})
  end
  if not forward then
    local last = whole(math.max(offset - 1, 0)) .. '-0'
    return answer(redis.call('XREVRANGE', channel.log, last, '-', 'COUNT', count))
  end
  local entries = redis.call('XRANGE', channel.log, whole(offset + 1) .. '-0', '+', 'COUNT', count)
  if entries[1] and offset_of(entries[1][1]) > offset + 1 then
    return answer({})
  end
  return answer(entries)
end

-- KEYS: fence, then meta and log of each channel
-- ARGV: seen, nonce, raise, ttl
-- Returns for each channel: epoch, top.
local function heads(call, keys)
  local results = { 'OK', call.incarnation }
  for index = 2, #keys, 2 do
    local channel, problem = open(keys[index], keys[index + 1], call)
    if problem then
      return problem
    end
    keep_numbering(channel, call)
    results[#results + 1] = channel.epoch
    results[#results + 1] = channel.top
  end
  return results
end

redis.register_function('tidewire_VERSION_append', fenced(append))
redis.register_function('tidewire_VERSION_read', fenced(read))
redis.register_function('tidewire_VERSION_page', fenced(page))
redis.register_function('tidewire_VERSION_heads', fenced(heads))

-- Sessions -------------------------------------------------------------------------------------

-- Field `o` is who owns the session: generation, owner, and, while a claim is not confirmed, its
-- nonce and the previous owner. Field `d` is the snapshot.
local function ownership(key)
  local fields = redis.call('HMGET', key, 'o', 'd')
  if not fields[1] then
    return nil
  end
  local generation, owner, nonce, previous = string.match(fields[1], '^(%d+) (%S+) (%S*) (%S*)$')
  return { generation = tonumber(generation), owner = owner, nonce = nonce, previous = previous,
    snapshot = fields[2] }
end

local function write_ownership(key, generation, owner, nonce, previous)
  redis.call('HSET', key, 'o', table.concat({ whole(generation), owner, nonce, previous }, ' '))
end

-- KEYS: session; ARGV: generation, owner, nonce, ttl
local function session_claim(keys, args)
  local session = ownership(keys[1])
  if not session then
    return { 'MISSING' }
  end
  local generation = tonumber(args[1])
  if session.generation == generation then
    session.previous, session.nonce = session.owner, args[3]
  elseif session.generation ~= generation + 1 or session.nonce ~= args[3] then
    return { 'FENCED' }
  end
  -- A claim repeated through another node, with the same nonce, makes that one the owner.
  write_ownership(keys[1], generation + 1, args[2], session.nonce, session.previous)
  redis.call('PEXPIRE', keys[1], args[4])
  return { 'GRANTED', generation + 1, session.previous, session.snapshot }
end

-- A session that is not there is made: it is new, or it was lost and its owner brings it back.
-- KEYS: session; ARGV: generation, owner, snapshot, ttl
local function session_save(keys, args)
  local session = ownership(keys[1])
  local generation, owner = tonumber(args[1]), args[2]
  if session and (session.generation > generation
      or (session.generation == generation and session.owner ~= owner)) then
    return { 'FENCED' }
  end
  write_ownership(keys[1], generation, owner, '', '')
  redis.call('HSET', keys[1], 'd', args[3])
  redis.call('PEXPIRE', keys[1], args[4])
  return { 'OK' }
end

redis.register_function('tidewire_VERSION_session_save', session_save)
redis.register_function('tidewire_VERSION_session_claim', session_claim)

-- Leases of nodes ------------------------------------------------------------------------------

-- KEYS: leases by node (hash), expiries by node (sorted set)

-- ARGV: node, lease, ttl
local function lease_renew(keys, args)
  redis.call('HSET', keys[1], args[1], args[2])
  redis.call('ZADD', keys[2], whole(clock() + tonumber(args[3])), args[1])
  return { 'OK' }
end

local function lease_members(keys)
  local now = whole(clock())
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', now)) do
    redis.call('HDEL', keys[1], node)
    redis.call('ZREM', keys[2], node)
  end
  local leases = redis.call('HVALS', keys[1])
  table.insert(leases, 1, 'OK')
  return leases
end

-- ARGV: node
local function lease_withdraw(keys, args)
  redis.call('HDEL', keys[1], args[1])
  redis.call('ZREM', keys[2], args[1])
  return { 'OK' }
end

redis.register_function('tidewire_VERSION_lease_renew', lease_renew)
redis.register_function('tidewire_VERSION_lease_members', lease_members)
redis.register_function('tidewire_VERSION_lease_withdraw', lease_withdraw)
