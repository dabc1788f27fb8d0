
-- Presence -------------------------------------------------------------------------------------

-- The presence in a channel is one hash: the entries of its members by session, which are 16 bytes each,
-- the numbers of subscribers by life, where nobody enters, and its numbering in `r`. An entry is: life,
-- generation, version, when it leaves if it is away or else 0, user, a zero byte, word.
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
-- How many there are is told once in 1 s, of more than so many once in 5 s.
local MANY = 10000
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

-- No session's name is as long with a life behind it.
local SUBSCRIBERS = 'subscribers of '

-- The offset of the last change, and if there is more to say: when only the number of members was told last and
-- how many they were, or 0, above how many that is so, and how many subscribers there are, of how many lives.
-- A numbering begins at the time, so that one that was forgotten goes on beyond where it was.
local function presence_numbering(members, otherwise)
  local numbers = {}
  for number in string.gmatch(redis.call('HGET', members, 'r') or '', '%d+') do
    numbers[#numbers + 1] = tonumber(number)
  end
  return { is_new = not numbers[1], offset = numbers[1] or otherwise, told_at = numbers[2] or 0, told = numbers[3] or 0,
    listed = numbers[4] or 0, subscribers = numbers[5] or 0, lives = numbers[6] or 0 }
end

local function write_numbering(members, numbering)
  local text = whole(numbering.offset)
  if numbering.told_at > 0 or numbering.lives > 0 then
    text = table.concat({ text, whole(numbering.told_at), whole(numbering.told), whole(numbering.listed),
      whole(numbering.subscribers), whole(numbering.lives) }, ' ')
  end
  redis.call('HSET', members, 'r', text)
  redis.call('PEXPIRE', members, whole(PRESENCE_TTL))
end

local function presence_count(members, numbering)
  local others = numbering.lives + (numbering.is_new and 0 or 1)
  return redis.call('HLEN', members) - others + numbering.subscribers
end

-- What is to be told after a step: 'N' each change, 'C' how many there are, '+' and milliseconds the same in so
-- long a time, 'A' names again, '-' nothing. Without `listed` it is as it was.
local function telling(numbering, count, listed, now)
  local is_counted = numbering.told_at > 0
  listed = listed or is_counted and numbering.listed or math.huge
  if not is_counted and count <= listed then
    return 'N'
  end
  if is_counted and count * 5 < listed * 4 then
    numbering.told_at, numbering.told = 0, 0
    return 'A'
  end
  numbering.listed = listed
  if is_counted and count == numbering.told then
    return '-'
  end
  local next_at = numbering.told_at + (count > MANY and 5000 or 1000)
  local is_first_or_last = not is_counted or (count == 0) ~= (numbering.told == 0)
  if not is_first_or_last and now < next_at and now >= numbering.told_at then
    return '+' .. whole(next_at - now)
  end
  numbering.told_at, numbering.told = now, count
  return 'C'
end

-- The end of every step: returns count, offset and what is to be told. `before` is where the numbering was.
local function tally(members, numbering, before, listed, now)
  local count = presence_count(members, numbering)
  local told = telling(numbering, count, listed, now)
  if numbering.offset > before or redis.call('EXISTS', members) == 1 then
    write_numbering(members, numbering)
  end
  return count, numbering.offset, told
end

-- What some moves come to: how many members more or less each life has here, and whether any was claimed that
-- was known to be.
local function nothing_changed()
  return { by_life = {}, is_claimed = false }
end

local function note_here(changed, life, by)
  changed.by_life[life] = (changed.by_life[life] or 0) + by
end

-- Where a number was lost nobody knows how many are here. It begins anew where no leave brings it to 0, or the
-- channel would be dropped with others still in it: then only `presence_orphan` ends it.
local BEGUN_ANEW = '1099511627776'

-- The channels of other lives are in keys that are not declared: beside the one that is.
local function write_here(keys, life, changed)
  local members, before_life = keys[2], string.sub(keys[4], 1, -#life - 1)
  if changed.is_claimed then
    redis.call('HSETNX', keys[4], members, BEGUN_ANEW)
  end
  for of, by in pairs(changed.by_life) do
    local channels = before_life .. of
    if by ~= 0 and redis.call('HINCRBY', channels, members, by) <= 0 then
      redis.call('HDEL', channels, members)
    end
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

local function set_subscribers(keys, numbering, life, subscribers, changed)
  local members, field = keys[2], SUBSCRIBERS .. life
  local before = tonumber(redis.call('HGET', members, field) or '0')
  local lives = (subscribers > 0 and 1 or 0) - (before > 0 and 1 or 0)
  if subscribers > 0 then
    redis.call('HSET', members, field, whole(subscribers))
    changed.is_claimed = lives == 0
  elseif before > 0 then
    redis.call('HDEL', members, field)
  end
  note_here(changed, life, lives)
  numbering.lives = numbering.lives + lives
  numbering.subscribers = numbering.subscribers + subscribers - before
  if subscribers ~= before then
    numbering.offset = numbering.offset + 1
  end
end

-- KEYS: fence, members, away, channels of the life, guard
-- ARGV: seen, nonce, raise, ttl, life, debounce, how many are listed, and for each move: 'E' | 'A' | 'L',
--       session, generation, version, user with a zero byte and word
-- Returns the fates as letters, count, offset, what is told.
local function presence_apply(call, keys, args)
  local members, life, leaves = keys[2], args[5], call.now + tonumber(args[6])
  local numbering, fates, changed = presence_numbering(members, call.now), {}, nothing_changed()
  local before = numbering.offset
  for index = 8, #args, 5 do
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
      numbering.offset = numbering.offset + 1
    end
    fates[#fates + 1] = fate
  end
  write_here(keys, life, changed)
  return { 'OK', call.incarnation, table.concat(fates),
    tally(members, numbering, before, tonumber(args[7]), call.now) }
end

-- KEYS: fence, members, away, channels of the life, guard
-- ARGV: seen, nonce, raise, ttl, life, its subscribers
-- Returns count, offset, what is told.
local function presence_tally(call, keys, args)
  local numbering, changed = presence_numbering(keys[2], call.now), nothing_changed()
  local before = numbering.offset
  set_subscribers(keys, numbering, args[5], tonumber(args[6]), changed)
  write_here(keys, args[5], changed)
  return { 'OK', call.incarnation, tally(keys[2], numbering, before, 0, call.now) }
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
  local numbering = presence_numbering(keys[2], 0)
  return { 'OK', call.incarnation, is_anew and 1 or 0, found[1], presence_count(keys[2], numbering),
    numbering.offset, entries }
end

-- KEYS: fence, guard, members of each channel
-- ARGV: seen, nonce, raise, ttl
-- Returns for each channel: count, offset, whether only its number is told.
local function presence_counts(call, keys)
  local results = { 'OK', call.incarnation }
  for index = 3, #keys do
    local numbering = presence_numbering(keys[index], 0)
    results[#results + 1] = presence_count(keys[index], numbering)
    results[#results + 1] = numbering.offset
    results[#results + 1] = numbering.told_at > 0 and 1 or 0
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
-- Returns whether there are more, and for each channel: name, for each who has left session and user, count,
-- offset, what is told.
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
    local numbering = presence_numbering(members, call.now)
    local before = numbering.offset
    numbering.offset = before + #gone[members] / 2
    local told = { channel_name(members), gone[members], tally(members, numbering, before, nil, call.now) }
    for _, value in ipairs(told) do
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
-- Returns how many are marked, the place to go on from or 0, count, offset, what is told.
local function presence_orphan(call, keys, args)
  local members, leaves = keys[2], call.now + tonumber(args[7])
  local found = redis.call('HSCAN', members, args[6], 'COUNT', ORPHANS_AT_ONCE)
  local marked, changed, numbering = 0, nothing_changed(), presence_numbering(members, call.now)
  local before = numbering.offset
  if args[6] == '0' then
    set_subscribers(keys, numbering, args[5], 0, changed)
  end
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
  return { 'OK', call.incarnation, marked, found[1], tally(members, numbering, before, nil, call.now) }
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
redis.register_function('tidewire_VERSION_presence_tally', fenced(presence_tally))
register_essential('tidewire_VERSION_presence_page', fenced(presence_page))
register_essential('tidewire_VERSION_presence_counts', fenced(presence_counts))
register_essential('tidewire_VERSION_presence_expire', fenced(presence_expire))
register_essential('tidewire_VERSION_presence_channels', fenced(presence_channels))
register_essential('tidewire_VERSION_presence_orphan', fenced(presence_orphan))
register_essential('tidewire_VERSION_presence_lives', presence_lives)
