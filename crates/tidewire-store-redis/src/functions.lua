#!lua name=tidewire_VERSION

-- The functions of the log and the stores. VERSION is replaced by a hash of this text, in the name
-- of the library and of every function, so that nodes of two releases can share one Redis.
--
-- A function is one atomic step, and replicates as one. All times are milliseconds.

local MINUTE = 60 * 1000
local HOUR = 60 * MINUTE

-- How far an incarnation that this server has not got may be ahead of its clock.
local CLOCK_TOLERANCE = 10 * MINUTE

local MAX_ERAS = 8

-- How far back the traces of an earlier try are looked for.
local SEARCH_ENTRIES = 4096
local SEARCH_BYTES = 8 * 1024 * 1024

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

-- A server without memory refuses to run a function, but for these: they write next to nothing, and
-- without them clients could not read what there is, what is stored could not be confirmed, and nodes
-- would be held for dead.
local function register_essential(name, callback)
  redis.register_function({ function_name = name, callback = callback, flags = { 'allow-oom' } })
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
  -- What is stored began under a clock that was set back since, or that of another server.
  if started(seen) > math.max(now, started(incarnation)) + CLOCK_TOLERANCE then
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

-- A channel nobody has published to is forgotten after an hour, any other a day after its log has
-- run out. Written down with the hour it was last done, because asking is free and PEXPIRE is not.
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
  channel.has_begun = true
end

local function store_epoch(channel)
  redis.call('HSET', channel.meta, 't', whole(channel.top), 'e', channel.epoch, 'l', channel.lineage)
end

-- A channel as of this incarnation: at its first touch in a new one, an epoch begins.
local function look_up(meta, log, call)
  local fields = redis.call('HMGET', meta, 't', 'e', 'l', 'm', 'x')
  local channel = {
    meta = meta,
    log = log,
    top = tonumber(fields[1] or '0'),
    epoch = fields[2] or '',
    lineage = fields[3] or '',
    touched = tonumber(fields[4] or '0') or 0,
    appended = tonumber(fields[5] or '0') or 0,
    is_missing = not fields[3],
  }
  if channel.is_missing then
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

-- For who will hold on to a position: a channel that is missing is made. Until somebody publishes to
-- it, it is forgotten an hour after it was last opened.
local function open(meta, log, call)
  local channel, problem = look_up(meta, log, call)
  if problem then
    return nil, problem
  end
  if channel.is_missing then
    redis.call('DEL', meta, log)
  end
  if channel.has_begun then
    store_epoch(channel)
  end
  return channel
end

-- For who only asks: a channel that is missing stays so, and its epoch is made up for this answer.
local function peek(meta, log, call)
  local channel, problem = look_up(meta, log, call)
  if channel and channel.has_begun and not channel.is_missing then
    store_epoch(channel)
  end
  return channel, problem
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

-- Entries from `first` to `last`, at most `limit` of them and `budget` bytes of payload, but one at
-- least, and whether there are more. They are fetched in pieces, so that what is beyond the budget
-- is hardly touched.
local function fetch(command, log, first, last, limit, budget)
  local entries, piece = {}, 4
  while true do
    -- One more than asked for tells whether there are more.
    local count = math.min(piece, limit + 1 - #entries)
    local found = redis.call(command, log, first, last, 'COUNT', count)
    for _, entry in ipairs(found) do
      budget = budget - #(entry[2][4] or '')
      if #entries == limit or (budget < 0 and #entries > 0) then
        return entries, true
      end
      entries[#entries + 1] = entry
    end
    if #found < count then
      return entries, false
    end
    first = '(' .. found[#found][1]
    piece = math.min(2 * piece, 32)
  end
end

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

-- Appending ------------------------------------------------------------------------------------

-- An entry's field `m` is the time, a zero byte, one character for the kind, eight for the batch,
-- four for the place in it, and what else the node wrote.
local function stamp_and_batch(entry)
  local time, batch = string.match(entry[2][2], '^(%d+)%z.(' .. string.rep('.', 12) .. ')')
  return tonumber(time), batch
end

-- Finds what an earlier try of the same batch has stored: it is above any position that the caller
-- knew before the first try. No clock is asked, because a failover may have put another one in
-- charge. Returns the entries by place, whether that is all there can be, and whether there is any.
local function find_batch(channel, batch, epoch, offset)
  local since = 0
  if epoch ~= '' then
    local status, known = locate(channel, epoch, tonumber(offset))
    since = status == 'X' and 0 or known
  end
  local entries, has_more = fetch('XREVRANGE', channel.log, '+', '(' .. whole(since) .. '-0',
    SEARCH_ENTRIES, SEARCH_BYTES)
  local found, any = {}, false
  for _, entry in ipairs(entries) do
    local time, name = stamp_and_batch(entry)
    if name and string.sub(name, 1, 8) == batch then
      found[tonumber(string.sub(name, 9), 36)] = { offset = offset_of(entry[1]), time = time }
      any = true
    end
  end
  return found, not has_more and #entries == channel.top - since, any
end

-- Where the publication with this id was stored before, as epoch and offset. If it was not, the id
-- is taken for the next offset.
local function find_or_take_id(channel, buckets, field)
  -- A clock that was set back, or that of another server, may have come from the bucket after this.
  local known = redis.call('HGET', buckets.previous, field) or redis.call('HGET', buckets.next, field)
  if not known then
    local next_position = channel.epoch .. whole(channel.top + 1)
    if redis.call('HSETNX', buckets.current, field, next_position) == 1 then
      buckets.used = true
      return nil
    end
    known = redis.call('HGET', buckets.current, field)
  elseif redis.call('HSETNX', buckets.current, field, known) == 1 then
    -- Who repeats it has not been answered yet, and may have to for longer than a window.
    buckets.used = true
  end
  local epoch, offset = string.sub(known, 1, 16), tonumber(string.sub(known, 17))
  if string.find(channel.lineage, epoch, 1, true) then
    return epoch, offset
  end
  -- The channel has lost its numbering since, and the publication with it.
  redis.call('HDEL', buckets.previous, field)
  redis.call('HDEL', buckets.next, field)
  redis.call('HSET', buckets.current, field, channel.epoch .. whole(channel.top + 1))
  buckets.used = true
  return nil
end

local function time_of(channel, offset, otherwise)
  local id = whole(offset) .. '-0'
  local entry = redis.call('XRANGE', channel.log, id, id)[1]
  return entry and stamp_and_batch(entry) or otherwise
end

local function finish_append(channel, call)
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

-- What a tenant keeps, in this part of the log: how many bytes of each tenant (hash), of each of its
-- channels (hash), and when each of those runs out (sorted set). A channel is named by its tenant, a
-- blank and the key of its log. Only tenants that have a bound are counted.

-- What an entry costs beside its payload.
local ENTRY_BYTES = 128
local MOST_RUN_OUT = 100

local function set_kept(usage, name, bytes)
  local before = tonumber(redis.call('HGET', usage.channels, name) or '0')
  if bytes > 0 then
    redis.call('HSET', usage.channels, name, whole(bytes))
  else
    redis.call('HDEL', usage.channels, name)
    redis.call('ZREM', usage.ends, name)
  end
  local tenant = string.match(name, '^%S+')
  if redis.call('HINCRBY', usage.tenants, tenant, whole(bytes - before)) <= 0 then
    redis.call('HDEL', usage.tenants, tenant)
  end
end

local function forget_run_out(usage, now)
  local run_out = redis.call(
    'ZRANGEBYSCORE', usage.ends, '-inf', whole(now), 'LIMIT', 0, MOST_RUN_OUT)
  for _, name in ipairs(run_out) do
    set_kept(usage, name, 0)
  end
end

local function usage_at(keys, first)
  return { tenants = keys[first], channels = keys[first + 1], ends = keys[first + 2] }
end

-- What is counted of a channel for a tenant that has a bound, `bound` being how much may be kept here and
-- the tenant's name; nothing of any other.
local function usage_of(channel, keys, bound, call)
  if bound == '' then
    return nil
  end
  local usage = usage_at(keys, 5)
  local most, tenant = string.match(bound, '^(%d*) (%S+)$')
  usage.name = tenant .. ' ' .. channel.log
  usage.before = redis.call('XLEN', channel.log)
  usage.entries, usage.bytes = 0, 0
  forget_run_out(usage, call.now)
  local kept = tonumber(redis.call('HGET', usage.tenants, tenant) or '0')
  usage.is_full = most ~= '' and kept >= tonumber(most)
  return usage
end

-- Trimming says nothing of bytes: what is gone is taken for as large as what was there on average.
local function count_usage(usage, channel, call)
  local kept = tonumber(redis.call('HGET', usage.channels, usage.name) or '0')
  if usage.before == 0 then
    kept = 0
  elseif kept == 0 then
    kept = usage.before * usage.bytes / usage.entries
  end
  local left = redis.call('XLEN', channel.log) / (usage.before + usage.entries)
  set_kept(usage, usage.name, math.ceil((kept + usage.bytes) * math.min(left, 1)))
  local ttl = math.ceil(call.ttl * 9 / 8)
  redis.call('ZADD', usage.ends, whole(call.now + ttl), usage.name)
  if redis.call('PTTL', usage.tenants) < ttl then
    for _, key in ipairs({ usage.tenants, usage.channels, usage.ends }) do
      redis.call('PEXPIRE', key, whole(2 * ttl))
    end
  end
end

-- KEYS: bytes of tenants, of channels, when those run out
-- Returns for each tenant: its name, bytes.
local function kept_bytes(keys)
  local usage = usage_at(keys, 1)
  forget_run_out(usage, clock())
  local reply = { 'OK' }
  for _, text in ipairs(redis.call('HGETALL', usage.tenants)) do
    reply[#reply + 1] = text
  end
  return reply
end

register_essential('tidewire_VERSION_kept_bytes', kept_bytes)

-- Where the drafts begin in the arguments.
local FIRST_DRAFT = 13

-- The prefix of the buckets is a key, though there never is one of that name: while a cluster moves
-- the slot, Redis then takes the call for one whose keys are not all here, and refuses it until the
-- slot has moved. Carried out among half of its keys, it would end in the middle, with entries that
-- no numbering knows of. For the same reason a client must not follow ASK.
--
-- KEYS: fence, meta, log, prefix of the dedupe buckets, and for a tenant that may keep so much only:
--       what tenants keep
-- ARGV: seen, nonce, raise, ttl, size, batch, 'first' | 'again', a position known before the first
--       try as epoch or '' and offset, the epoch the channel has to be in or '', how long an id is
--       remembered at least (twice as long at most), how much the tenant may keep in this part of the
--       log or '', a blank and its name, or '' if that is not counted, and for each draft: dedupe field or '', rest of
--       `m`, payload
-- Returns 'FORKED' if the channel is in another epoch, 'FULL' if the tenant may keep no more, or 'KEPT' and for each draft: epoch, offset,
-- whether it is a duplicate, time.
local function append(call, keys, args)
  local channel, problem = open(keys[2], keys[3], call)
  if problem then
    return problem
  end
  local size = tonumber(args[5])
  local found, conclusive, any = {}, true, false
  if args[7] == 'again' then
    found, conclusive, any = find_batch(channel, args[6], args[8], args[9])
    for index = FIRST_DRAFT, #args, 3 do
      local is_lost = args[index] == '' and not found[(index - FIRST_DRAFT) / 3]
      if is_lost and (any or not conclusive) then
        return { 'UNKNOWN' }
      end
    end
  end
  -- What an earlier try has stored is kept, whatever has happened since.
  if args[10] ~= '' and args[10] ~= channel.epoch and not any then
    return { 'OK', call.incarnation, 'FORKED' }
  end
  local usage = usage_of(channel, keys, args[12], call)
  if usage and usage.is_full and not any then
    return { 'OK', call.incarnation, 'FULL' }
  end

  local window = tonumber(args[11])
  local bucket = math.floor(call.now / window)
  local buckets = { current = keys[4] .. whole(bucket), previous = keys[4] .. whole(bucket - 1),
    next = keys[4] .. whole(bucket + 1) }
  local now, first_new = stamp(call.now), channel.top + 1
  local results = { 'OK', call.incarnation, 'KEPT' }
  local function answer(epoch, offset, is_duplicate, time)
    local count = #results
    results[count + 1], results[count + 2] = epoch, offset
    results[count + 3], results[count + 4] = is_duplicate, time
  end

  for index = FIRST_DRAFT, #args, 3 do
    local field, before = args[index], found[(index - FIRST_DRAFT) / 3]
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
      if usage then
        usage.entries = usage.entries + 1
        usage.bytes = usage.bytes + #args[index + 2] + ENTRY_BYTES
      end
      answer(channel.epoch, channel.top, 0, now)
    end
  end
  if buckets.used then
    redis.call('PEXPIRE', buckets.current, whole(3 * window), 'NX')
  end
  if channel.top >= first_new then
    finish_append(channel, call)
    if usage then
      count_usage(usage, channel, call)
    end
  end
  return results
end

-- Reading --------------------------------------------------------------------------------------

-- KEYS: fence, meta, log
-- ARGV: seen, nonce, raise, ttl, limit, bytes, 'now' | 'last' | 'position', count or epoch, offset
-- Returns status, base, top, lineage, entries. The status is one of locate's, Fresh, or Trimmed.
local function read(call, keys, args)
  local channel, problem = open(keys[2], keys[3], call)
  if problem then
    return problem
  end
  keep_numbering(channel, call)
  local status, base = 'F', channel.top
  if args[7] == 'last' then
    base = math.max(channel.top - tonumber(args[8]), 0)
  elseif args[7] == 'position' then
    status, base = locate(channel, args[8], tonumber(args[9]))
  end
  local entries = {}
  if base < channel.top then
    local first_id = whole(base + 1) .. '-0'
    entries = fetch('XRANGE', channel.log, first_id, '+', tonumber(args[5]), tonumber(args[6]))
    local first = entries[1] and offset_of(entries[1][1]) or channel.top + 1
    if first > base + 1 then
      base = first - 1
      status = status == 'F' and 'F' or 'T'
    end
  end
  return { 'OK', call.incarnation, status, base, channel.top, channel.lineage, entries }
end

-- KEYS: fence, meta, log
-- ARGV: seen, nonce, raise, ttl, limit, bytes, 'forward' | 'backward', epoch or '', offset
-- Returns top, lineage, entries, whether there are more.
local function page(call, keys, args)
  local channel, problem = peek(keys[2], keys[3], call)
  if problem then
    return problem
  end
  local function answer(entries, has_more)
    return { 'OK', call.incarnation, channel.top, channel.lineage, entries, has_more and 1 or 0 }
  end
  local status, offset = 'C', nil
  if args[8] ~= '' then
    status, offset = locate(channel, args[8], tonumber(args[9]))
  end
  if status ~= 'C' or channel.is_missing then
    return answer({})
  end
  local limit, budget = tonumber(args[5]), tonumber(args[6])
  if args[7] == 'backward' then
    local newest = offset and whole(math.max(offset - 1, 0)) .. '-0' or '+'
    return answer(fetch('XREVRANGE', channel.log, newest, '-', limit, budget))
  end
  local oldest = offset and whole(offset + 1) .. '-0' or '-'
  local entries, has_more = fetch('XRANGE', channel.log, oldest, '+', limit, budget)
  if offset and entries[1] and offset_of(entries[1][1]) > offset + 1 then
    return answer({})
  end
  return answer(entries, has_more)
end

-- KEYS: fence, then meta and log of each channel
-- ARGV: seen, nonce, raise, ttl
-- Returns for each channel: epoch, top.
local function heads(call, keys)
  local results = { 'OK', call.incarnation }
  for index = 2, #keys, 2 do
    local channel, problem = peek(keys[index], keys[index + 1], call)
    if problem then
      return problem
    end
    if not channel.is_missing then
      keep_numbering(channel, call)
    end
    results[#results + 1] = channel.epoch
    results[#results + 1] = channel.top
  end
  return results
end

-- Written for a WAIT that follows: when a replica has it, it has all that was stored before.
-- KEYS: fence, mark
-- ARGV: seen, nonce, raise, ttl
local function mark(call, keys)
  redis.call('SET', keys[2], call.incarnation, 'PX', whole(call.ttl))
  return { 'OK', call.incarnation }
end

redis.register_function('tidewire_VERSION_append', fenced(append))
register_essential('tidewire_VERSION_mark', fenced(mark))
register_essential('tidewire_VERSION_read', fenced(read))
register_essential('tidewire_VERSION_page', fenced(page))
register_essential('tidewire_VERSION_heads', fenced(heads))

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
register_essential('tidewire_VERSION_session_claim', session_claim)

-- Leases of nodes ------------------------------------------------------------------------------

-- KEYS: leases by node (hash), expiries by node (sorted set)

-- ARGV: node, lease, ttl
local function lease_renew(keys, args)
  redis.call('HSET', keys[1], args[1], args[2])
  redis.call('ZADD', keys[2], whole(clock() + tonumber(args[3])), args[1])
  return { 'OK' }
end

-- ARGV: the longest ttl that whoever asks has seen given, 0 if it has seen none
local function lease_members(keys, args)
  local now, longest = clock(), tonumber(args[1])
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', keys[2], '-inf', whole(now))) do
    redis.call('HDEL', keys[1], node)
    redis.call('ZREM', keys[2], node)
  end
  if longest > 0 then
    -- Nobody was given twice as long: the clock has been set back since. Begun anew, the lease of a
    -- live node is renewed in time, and that of a dead one runs out as it would have.
    local least = whole(now + 2 * longest)
    for _, node in ipairs(redis.call('ZRANGEBYSCORE', keys[2], least, '+inf')) do
      redis.call('ZADD', keys[2], whole(now + longest), node)
    end
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

register_essential('tidewire_VERSION_lease_renew', lease_renew)
register_essential('tidewire_VERSION_lease_members', lease_members)
register_essential('tidewire_VERSION_lease_withdraw', lease_withdraw)

-- Tenants --------------------------------------------------------------------------------------

-- KEYS of both: state (hash: life, the run id of the server that began it, the version n, how many
-- tenants are there), documents by tenant (hash: revision, nonce and sealed document, with a space
-- between; no document is a removal), versions by tenant (sorted set), owners by mark (hash), marks
-- by tenant (hash)

local MARK_BYTES = 16
local PAGE_ENTRIES = 256
local PAGE_BYTES = 1024 * 1024
-- Removals are kept too, so that who was away hears of them.
local ENTRIES_PER_TENANT = 4

-- The life of the numbering. After a restart or a failover versions may be given out anew, so whoever
-- reads begins again.
local function tenants_life(keys, nonce)
  local fields = redis.call('HMGET', keys[1], 'life', 'run', 'n', 'there')
  local me = server_run_id()
  local state = { life = fields[1], version = tonumber(fields[3] or '0'),
    there = tonumber(fields[4] or '0') }
  if fields[2] ~= me then
    state.life = nonce
    redis.call('HSET', keys[1], 'life', nonce, 'run', me)
  end
  return state
end

local function tenant_entry(text)
  if not text then
    return { revision = 0, nonce = '', document = '' }
  end
  local revision, nonce, start = string.match(text, '^(%d+) (%x+) ()')
  return { revision = tonumber(revision), nonce = nonce, document = string.sub(text, start) }
end

local function each_mark(marks, visit)
  for start = 1, #marks, MARK_BYTES do
    visit(string.sub(marks, start, start + MARK_BYTES - 1))
  end
end

-- ARGV: tenant, the revision expected or '' for any older one, revision, nonce, most tenants, marks,
--       document
local function tenant_write(keys, args)
  local tenant, expected, revision, nonce = args[1], tonumber(args[2]), tonumber(args[3]), args[4]
  local most, marks, document = tonumber(args[5]), args[6], args[7]
  local state = tenants_life(keys, nonce)
  local stored = redis.call('HGET', keys[2], tenant)
  local known = tenant_entry(stored)
  if stored and known.nonce == nonce and known.revision == revision then
    return { 'DONE' }
  end
  local was_there = known.document ~= ''
  local is_expected = expected and known.revision == expected or not expected and known.revision < revision
  if not is_expected then
    return { 'CONFLICT', known.revision, was_there and 1 or 0 }
  end
  local owner
  each_mark(marks, function(mark)
    local other = redis.call('HGET', keys[4], mark)
    if other and other ~= tenant then
      owner = other
    end
  end)
  if owner then
    return { 'TAKEN', owner }
  end
  local is_there = document ~= ''
  if is_there and not was_there and state.there >= most
      or not stored and redis.call('HLEN', keys[2]) >= ENTRIES_PER_TENANT * most then
    return { 'FULL' }
  end
  each_mark(redis.call('HGET', keys[5], tenant) or '', function(mark)
    redis.call('HDEL', keys[4], mark)
  end)
  redis.call('HDEL', keys[5], tenant)
  each_mark(marks, function(mark)
    redis.call('HSET', keys[4], mark, tenant)
  end)
  if marks ~= '' then
    redis.call('HSET', keys[5], tenant, marks)
  end
  redis.call('HSET', keys[2], tenant, args[3] .. ' ' .. nonce .. ' ' .. document)
  redis.call('HSET', keys[1], 'n', whole(state.version + 1),
    'there', whole(state.there + (is_there and 1 or 0) - (was_there and 1 or 0)))
  redis.call('ZADD', keys[3], whole(state.version + 1), tenant)
  return { 'DONE' }
end

-- ARGV: life, version, nonce
-- Returns life, version, whether it is from the beginning, whether there is more, and for each entry:
-- tenant, revision, document.
local function tenant_changes(keys, args)
  local state = tenants_life(keys, args[3])
  local since = tonumber(args[2])
  local is_reset = args[1] ~= state.life or since > state.version
  if is_reset then
    since = 0
  end
  local found = redis.call('ZRANGEBYSCORE', keys[3], '(' .. whole(since), '+inf', 'WITHSCORES',
    'LIMIT', 0, PAGE_ENTRIES + 1)
  local entries, bytes, more = {}, 0, false
  for index = 1, #found, 2 do
    local known = tenant_entry(redis.call('HGET', keys[2], found[index]))
    bytes = bytes + #known.document
    if #entries == 3 * PAGE_ENTRIES or (bytes > PAGE_BYTES and #entries > 0) then
      more = true
      break
    end
    since = tonumber(found[index + 1])
    entries[#entries + 1] = found[index]
    entries[#entries + 1] = known.revision
    entries[#entries + 1] = known.document
  end
  return { 'OK', state.life, since, is_reset and 1 or 0, more and 1 or 0, entries }
end

redis.register_function('tidewire_VERSION_tenant_write', tenant_write)
register_essential('tidewire_VERSION_tenant_changes', tenant_changes)

-- Revocations ----------------------------------------------------------------------------------

-- A revocation is named by its tenant, a space, and what it is about. Its times are seconds.

-- KEYS of both: revocations by name (hash: "before until"), versions by name (sorted set), when they
-- run out by name (sorted set), how many each tenant has (hash), state (hash: life, version n)

local EXPIRED_AT_ONCE = 1000

local function tenant_of(name)
  return string.match(name, '^[^ ]+')
end

local function forget_expired_revocations(keys)
  local now = whole(math.floor(clock() / 1000))
  local names = redis.call('ZRANGEBYSCORE', keys[3], '-inf', now, 'LIMIT', 0, EXPIRED_AT_ONCE)
  for _, name in ipairs(names) do
    redis.call('HDEL', keys[1], name)
    redis.call('ZREM', keys[2], name)
    redis.call('ZREM', keys[3], name)
    if redis.call('HINCRBY', keys[4], tenant_of(name), -1) <= 0 then
      redis.call('HDEL', keys[4], tenant_of(name))
    end
  end
end

-- What another process wrote may be more than this one has: then the versions may have forked.
local function revocations_life(keys)
  local life = redis.call('HGET', keys[5], 'life')
  local process = server_run_id()
  if not life or string.sub(life, 1, #process) ~= process then
    life = process .. '-' .. whole(clock())
    redis.call('HSET', keys[5], 'life', life)
  end
  return life
end

local function times_of(text)
  local before, until_ = string.match(text, '^(%d+) (%d+)$')
  if not before then
    error({ err = 'CORRUPT a revocation' })
  end
  return tonumber(before), tonumber(until_)
end

-- Whether there is room for the names that are not known yet.
local function has_room_for(keys, args)
  local new, of_tenant, count = {}, {}, 0
  for at = 5, #args, 3 do
    local name = args[at]
    if not new[name] and redis.call('HEXISTS', keys[1], name) == 0 then
      local tenant = tenant_of(name)
      new[name] = true
      count = count + 1
      of_tenant[tenant] = (of_tenant[tenant] or 0) + 1
    end
  end
  local all = redis.call('HLEN', keys[1]) + count
  local most = tonumber(all > tonumber(args[4]) and args[3] or args[1])
  for tenant, more in pairs(of_tenant) do
    local known = tonumber(redis.call('HGET', keys[4], tenant) or 0)
    if known + more > most then
      return false
    end
  end
  return count == 0 or all <= tonumber(args[2])
end

-- ARGV: most of a tenant, most in all, most of a tenant where there are more in all than the next says;
--       name, before, until of each
local function revoke(keys, args)
  forget_expired_revocations(keys)
  revocations_life(keys)
  if not has_room_for(keys, args) then
    return { 'FULL' }
  end
  for at = 5, #args, 3 do
    local name, before, until_ = args[at], tonumber(args[at + 1]), tonumber(args[at + 2])
    local known = redis.call('HGET', keys[1], name)
    if known then
      local known_before, known_until = times_of(known)
      before, until_ = math.max(before, known_before), math.max(until_, known_until)
    else
      redis.call('HINCRBY', keys[4], tenant_of(name), 1)
    end
    local text = whole(before) .. ' ' .. whole(until_)
    if text ~= known then
      redis.call('HSET', keys[1], name, text)
      redis.call('ZADD', keys[2], redis.call('HINCRBY', keys[5], 'n', 1), name)
      redis.call('ZADD', keys[3], whole(until_), name)
    end
  end
  return { 'OK' }
end

-- ARGV: life, version read last, most to be told
local function revoked_since(keys, args)
  forget_expired_revocations(keys)
  local life = revocations_life(keys)
  local from, most = args[2], tonumber(args[3])
  if args[1] ~= life then
    from = '0'
  end
  local found = redis.call(
    'ZRANGEBYSCORE', keys[2], '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, most + 1)
  local count = math.min(#found / 2, most)
  local reply = { 'OK', life, tonumber(count > 0 and found[2 * count] or from),
    #found / 2 > most and 1 or 0 }
  for at = 1, count do
    table.insert(reply, found[2 * at - 1])
    table.insert(reply, redis.call('HGET', keys[1], found[2 * at - 1]) or '')
  end
  return reply
end

-- A server without memory takes these: who is to be shut out is not let in for that.
register_essential('tidewire_VERSION_revoke', revoke)
register_essential('tidewire_VERSION_revoked_since', revoked_since)
