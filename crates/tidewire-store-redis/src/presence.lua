
-- Presence -------------------------------------------------------------------------------------

-- The presence in a channel is one hash: the entries of its members by session, which are 16 bytes each,
-- and in `r` the offset of the last change. An entry is: life, generation, version, when it leaves if it
-- is away or else 0, user, a zero byte, word.
--
-- Who is away stands in a sorted set too, as the hash's name, a zero byte and the session. The
-- channels of each life are a hash of such names, each with how many of the life's members are here: one
-- without any is not among them.
--
-- The last of the keys is one that there never is, for the sake of a slot that moves: see `append`.

local SESSION_BYTES = 16
local PRESENCE_TTL = 24 * HOUR
local ORPHANS_AT_ONCE = 500
local CHANNELS_AT_ONCE = 100
local MOST_LIVES = 10000
-- Nobody is given longer.
local LONGEST_AWAY = MINUTE

local function presence_entry(text)
  if not text then
    return nil
  end
  local life, generation, version, leaves, said = string.match(text, '^(%S+) (%d+) (%d+) (%d+) (.*)$')
  if not life then
    error({ err = 'CORRUPT an entry of presence' })
  end
  return { life = life, generation = tonumber(generation), version = tonumber(version),
    leaves = tonumber(leaves), said = said }
end

local function write_entry(members, session, entry)
  redis.call('HSET', members, session, table.concat({ entry.life, whole(entry.generation),
    whole(entry.version), whole(entry.leaves), entry.said }, ' '))
end

local function user_of(entry)
  return string.match(entry.said, '^(%Z*)')
end

local function away_name(members, session)
  return members .. '\0' .. session
end

local function channel_name(members)
  return string.match(members, '{%w+}:p:(.*)$')
end

-- A numbering begins at the time, so that one that was forgotten goes on beyond where it was.
local function presence_offset(members, otherwise)
  return tonumber(redis.call('HGET', members, 'r') or otherwise)
end

local function presence_count(members)
  return math.max(redis.call('HLEN', members) - 1, 0)
end

local function set_presence_offset(members, offset)
  redis.call('HSET', members, 'r', whole(offset))
  redis.call('PEXPIRE', members, whole(PRESENCE_TTL))
end

-- What some moves come to: how many members more or less each life has here, and whether any was claimed that
-- was known to be.
local function nothing_changed()
  return { by_life = {}, is_claimed = false }
end

local function note_here(changed, life, by)
  changed.by_life[life] = (changed.by_life[life] or 0) + by
end

-- The channels of other lives are in keys that are not declared: beside the one that is.
local function write_here(keys, life, changed)
  local members, before_life = keys[2], string.sub(keys[4], 1, -#life - 1)
  for of, by in pairs(changed.by_life) do
    local channels = before_life .. of
    if by ~= 0 and redis.call('HINCRBY', channels, members, by) <= 0 then
      redis.call('HDEL', channels, members)
    end
  end
  if changed.is_claimed then
    -- If the number was lost, it begins anew.
    redis.call('HSETNX', keys[4], members, '1')
  end
end

local function enter(keys, life, session, age, said, changed)
  local members, known = keys[2], age.known
  local entry = { life = life, generation = age.generation, version = age.version, leaves = 0,
    said = said }
  write_entry(members, session, entry)
  note_here(changed, life, 1)
  if not known then
    return 'J'
  end
  if known.leaves > 0 then
    redis.call('ZREM', keys[3], away_name(members, session))
  else
    note_here(changed, known.life, -1)
    changed.is_claimed = changed.is_claimed or known.life == life
  end
  return known.said == said and 'K' or 'U'
end

local function be_away(keys, session, age, leaves, changed)
  local members, entry = keys[2], age.known
  entry.generation, entry.version = age.generation, age.version
  if entry.leaves == 0 then
    entry.leaves = leaves
    redis.call('ZADD', keys[3], whole(leaves), away_name(members, session))
    note_here(changed, entry.life, -1)
  end
  write_entry(members, session, entry)
  return 'A'
end

local function leave(keys, session, age, changed)
  redis.call('HDEL', keys[2], session)
  if age.known.leaves > 0 then
    redis.call('ZREM', keys[3], away_name(keys[2], session))
  else
    note_here(changed, age.known.life, -1)
  end
  return 'L'
end

-- KEYS: fence, members, away, channels of the life, guard
-- ARGV: seen, nonce, raise, ttl, life, debounce, and for each move: 'E' | 'A' | 'L', session, generation,
--       version, user with a zero byte and word
-- Returns the fates as letters, count, offset.
local function presence_apply(call, keys, args)
  local members, life, leaves = keys[2], args[5], call.now + tonumber(args[6])
  local before = presence_offset(members, call.now)
  local offset, fates, changed = before, {}, nothing_changed()
  for index = 7, #args, 5 do
    local kind, session = args[index], args[index + 1]
    local age = { generation = tonumber(args[index + 2]), version = tonumber(args[index + 3]),
      known = presence_entry(redis.call('HGET', members, session)) }
    local known, fate = age.known, 'X'
    if known and (known.generation > age.generation
        or known.generation == age.generation and known.version > age.version) then
      fate = 'S'
    elseif kind == 'E' then
      fate = enter(keys, life, session, age, args[index + 4], changed)
    elseif known and kind == 'A' then
      fate = be_away(keys, session, age, leaves, changed)
    elseif known then
      fate = leave(keys, session, age, changed)
    end
    if fate == 'J' or fate == 'U' or fate == 'L' then
      offset = offset + 1
    end
    fates[#fates + 1] = fate
  end
  if offset > before or redis.call('EXISTS', members) == 1 then
    set_presence_offset(members, offset)
  end
  write_here(keys, life, changed)
  return { 'OK', call.incarnation, table.concat(fates), presence_count(members), offset }
end

-- KEYS: fence, members, guard
-- ARGV: seen, nonce, raise, ttl, incarnation of the mark or '', its place, limit
-- Returns whether it is the first page instead, the place to go on from or 0, count, offset, and for each
-- entry: session, life, user with a zero byte and word.
local function presence_page(call, keys, args)
  local is_anew = args[5] ~= '' and args[5] ~= call.incarnation
  local place = args[5] == call.incarnation and args[6] or '0'
  local found = redis.call('HSCAN', keys[2], place, 'COUNT', args[7])
  local entries = {}
  for index = 1, #found[2], 2 do
    local session = found[2][index]
    if #session == SESSION_BYTES then
      local entry = presence_entry(found[2][index + 1])
      entries[#entries + 1] = session
      entries[#entries + 1] = entry.life
      entries[#entries + 1] = entry.said
    end
  end
  return { 'OK', call.incarnation, is_anew and 1 or 0, found[1], presence_count(keys[2]),
    presence_offset(keys[2], 0), entries }
end

-- KEYS: fence, guard, members of each channel
-- ARGV: seen, nonce, raise, ttl
-- Returns for each channel: count, offset.
local function presence_counts(call, keys)
  local results = { 'OK', call.incarnation }
  for index = 3, #keys do
    results[#results + 1] = presence_count(keys[index])
    results[#results + 1] = presence_offset(keys[index], 0)
  end
  return results
end

-- Whose time is up later than anybody's can be was lost before the clock was set back: it begins anew.
local function restart_times_beyond(away, longest, limit)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', away, whole(longest + 1), '+inf', 'LIMIT', 0, limit)) do
    redis.call('ZADD', away, whole(longest), name)
  end
end

-- The members are in keys that are not declared: in a cluster they are in the slot of those that are.
-- KEYS: fence, away, guard
-- ARGV: seen, nonce, raise, ttl, limit
-- Returns whether there are more, and for each channel: name, count, offset, and for each who has left: session,
-- user.
local function presence_expire(call, keys, args)
  local limit = tonumber(args[5])
  restart_times_beyond(keys[2], call.now + LONGEST_AWAY, limit)
  local due = redis.call('ZRANGEBYSCORE', keys[2], '-inf', whole(call.now), 'LIMIT', 0, limit + 1)
  local channels, gone = {}, {}
  for index = 1, math.min(#due, limit) do
    local session, members = string.sub(due[index], -SESSION_BYTES),
      string.sub(due[index], 1, -SESSION_BYTES - 2)
    local entry = presence_entry(redis.call('HGET', members, session))
    redis.call('ZREM', keys[2], due[index])
    if entry and entry.leaves > 0 then
      redis.call('HDEL', members, session)
      if not gone[members] then
        gone[members] = {}
        channels[#channels + 1] = members
      end
      table.insert(gone[members], session)
      table.insert(gone[members], user_of(entry))
    end
  end
  local results = { 'OK', call.incarnation, #due > limit and 1 or 0 }
  for _, members in ipairs(channels) do
    local offset = presence_offset(members, call.now) + #gone[members] / 2
    set_presence_offset(members, offset)
    for _, value in ipairs({ channel_name(members), presence_count(members), offset, gone[members] }) do
      results[#results + 1] = value
    end
  end
  return results
end

-- KEYS: fence, channels of the life, guard
-- ARGV: seen, nonce, raise, ttl
local function presence_channels(call, keys)
  local results = { 'OK', call.incarnation }
  for _, members in ipairs(redis.call('HRANDFIELD', keys[2], CHANNELS_AT_ONCE)) do
    results[#results + 1] = channel_name(members)
  end
  return results
end

-- The channel stays one of the life's until the end, so that somebody else goes on if the caller cannot.
-- KEYS: fence, members, away, channels of the life, guard
-- ARGV: seen, nonce, raise, ttl, life, place to go on from, debounce
-- Returns how many are marked, and the place to go on from or 0.
local function presence_orphan(call, keys, args)
  local members, leaves = keys[2], call.now + tonumber(args[7])
  local found = redis.call('HSCAN', members, args[6], 'COUNT', ORPHANS_AT_ONCE)
  local marked, changed = 0, nothing_changed()
  for index = 1, #found[2], 2 do
    local session = found[2][index]
    local entry = #session == SESSION_BYTES and presence_entry(found[2][index + 1])
    if entry and entry.life == args[5] and entry.leaves == 0 then
      be_away(keys, session, { generation = entry.generation, version = entry.version, known = entry },
        leaves, changed)
      marked = marked + 1
    end
  end
  write_here(keys, args[5], changed)
  if found[1] == '0' then
    redis.call('HDEL', keys[4], members)
  end
  return { 'OK', call.incarnation, marked, found[1] }
end

-- KEYS: lives, by when they were last noted (sorted set)
-- ARGV: a life to note or '', one to forget or ''
local function presence_lives(keys, args)
  if args[1] ~= '' then
    redis.call('ZADD', keys[1], whole(clock()), args[1])
  end
  if args[2] ~= '' then
    redis.call('ZREM', keys[1], args[2])
  end
  local lives = redis.call('ZRANGE', keys[1], 0, MOST_LIVES - 1)
  table.insert(lives, 1, 'OK')
  return lives
end

redis.register_function('tidewire_VERSION_presence_apply', fenced(presence_apply))
register_essential('tidewire_VERSION_presence_page', fenced(presence_page))
register_essential('tidewire_VERSION_presence_counts', fenced(presence_counts))
register_essential('tidewire_VERSION_presence_expire', fenced(presence_expire))
register_essential('tidewire_VERSION_presence_channels', fenced(presence_channels))
register_essential('tidewire_VERSION_presence_orphan', fenced(presence_orphan))
register_essential('tidewire_VERSION_presence_lives', presence_lives)
