-- Sends each connection of a tenant to one of the tenant's homes, as every node computes them and
-- `tidewire placement TENANT` prints them: crates/tidewire-node/src/placement/rank.rs is the same in Rust.
--
-- A tenant's homes are the first few usable servers by descending -weight / ln(u), u in (0, 1) from the
-- XXH3 of tenant, zero byte and server; of these it is sent to the one with the fewest connections for
-- its weight. Servers have to be called what nodes call their slots (node.slot), and weigh what they say
-- (node.weight).
--
-- Where this does not know what to do it sets nothing, and the backend's own hash decides.

local BACKEND = "by_tenant"
local REFRESH_MS = 500
-- Tenants whose order is remembered, in each thread. What a client calls its tenant is not believed
-- here, so there may be any number of them.
local MOST_CACHED = 10000
-- Servers that are remembered beyond a tenant's homes, for when some are down.
local SPARE = 4
local LONGEST_TENANT = 32

local servers = {}
local cache, cached = {}, 0

local function forget()
  cache, cached = {}, 0
end

-- Weights change rarely, and to ask for them is too dear for every request. Whether a server is up is
-- asked each time.
local function refresh()
  local found, is_news = {}, false
  for name, server in pairs(core.backends[BACKEND].servers) do
    found[#found + 1] = { name = name, weight = tonumber(server:get_stats().weight) or 0 }
  end
  table.sort(found, function(left, right) return left.name < right.name end)
  is_news = #found ~= #servers
  for index = 1, #found do
    is_news = is_news or found[index].name ~= servers[index].name
      or found[index].weight ~= servers[index].weight
  end
  if is_news then
    servers = found
    forget()
  end
end

-- The servers that take anybody, best first for this tenant.
local function ranked(txn, tenant)
  local order, scores = {}, {}
  for _, server in ipairs(servers) do
    if server.weight > 0 then
      local hash = txn.c:xxh3(tenant .. "\0" .. server.name, 0)
      local u = ((hash >> 11) + 0.5) / 2.0 ^ 53
      scores[server] = -server.weight / math.log(u)
      order[#order + 1] = server
    end
  end
  table.sort(order, function(left, right)
    if scores[left] ~= scores[right] then
      return scores[left] > scores[right]
    end
    return left.name < right.name
  end)
  return order
end

-- The first of them. Whether these are all is told as well.
local function remembered(txn, tenant, wanted)
  local known = cache[tenant]
  if known and (known.is_all or #known >= wanted) then
    return known
  end
  local order = ranked(txn, tenant)
  local kept = { is_all = #order <= wanted }
  table.move(order, 1, math.min(#order, wanted), 1, kept)
  if not known then
    if cached >= MOST_CACHED then
      forget()
    end
    cached = cached + 1
  end
  cache[tenant] = kept
  return kept
end

local function usable(txn, order, k)
  local homes = {}
  for _, server in ipairs(order) do
    if #homes == k then
      break
    end
    if txn.f:srv_is_up(BACKEND .. "/" .. server.name) == 1 then
      homes[#homes + 1] = server
    end
  end
  return homes
end

local function least_busy(txn, homes)
  local best, least
  for _, server in ipairs(homes) do
    local connections = txn.f:srv_conn(BACKEND .. "/" .. server.name) / server.weight
    if not best or connections < least then
      best, least = server.name, connections
    end
  end
  return best
end

local function place(txn)
  local tenant, k = txn:get_var("txn.tenant"), txn:get_var("txn.homes")
  if #tenant > LONGEST_TENANT or not tenant:match("^[a-z0-9_-]+$") then
    return
  end
  if #servers == 0 then
    refresh()
  end
  local order = remembered(txn, tenant, k + SPARE)
  local homes = usable(txn, order, k)
  if #homes < k and not order.is_all then
    homes = usable(txn, ranked(txn, tenant), k)
  end
  local best = least_busy(txn, homes)
  if best then
    txn:set_var("txn.slot", best)
  end
end

core.register_action("tidewire-place", { "http-req" }, function(txn)
  local is_done, problem = pcall(place, txn)
  if not is_done then
    core.Warning("cannot place a tenant: " .. tostring(problem))
  end
end, 0)

core.register_task(function()
  while true do
    refresh()
    core.msleep(REFRESH_MS)
  end
end)
