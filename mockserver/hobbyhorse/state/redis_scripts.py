"""The Lua scripts of the Redis store, and the names of its keys. A script is one atomic step, and runs in Redis.

The keys of a world begin with `hh:` and end with its handle, here `w`:

| key | type | contents |
|---|---|---|
| `hh:w:w` | hash | the head as JSON, its clock, and the number of the next job |
| `hh:v:w` | hash | the versions: `head`, and each job by its number |
| `hh:j:w` | hash | jobs as JSON, by number |
| `hh:n:w`, `hh:n:w:provider` | sorted sets | the numbers of the jobs, and of those of a provider |
| `hh:i:w` | hash | the number of each job, by provider and id |
| `hh:k:w` | hash | the idempotency keys that were used, as JSON |
| `hh:c:w` | hash | the idempotency keys that are claimed, with the end of the lease and the claimant |
| `hh:d:w`, `hh:z:w` | hash, sorted set | dues as JSON by number; those that are not taken, by their moment |
| `hh:e:w` | list | rows of journal lines: their number, and the lines as JSON; later rows over earlier ones |
| `hh:a:w` | hash | the newest attempts as JSON, each in a slot that is used again |

Of all worlds: `hh:worlds`, `hh:next` (each world by the time at which its next due comes), `hh:taken` (the taken dues
by the end of their lease), `hh:owned:provider` (the number of jobs by id), `hh:open:provider` (the running jobs),
`hh:meta`, `hh:state` (a name that no other state has), `hh:runs`, `hh:b:name` (pictures), `hh:tls` (the authority of
the certificates, with its key),
`hh:owner` (the process that serves each world), `hh:p:process` (its address, which expires unless it is renewed),
`hh:ps` (the names of the processes).

The first argument of a script is the time, or an empty text for Redis's own: tests have a clock that stands.
"""

from __future__ import annotations

from hobbyhorse.state.records import KEPT_LINES, LEASE_SECONDS
from hobbyhorse.state.redis_connection import Script

# Seconds for which a kept change is known by its id: longer than its sender tries to learn that it was kept.
KNOWN_SECONDS = 60

_COMMON = """
local function call(...) return redis.call(...) end
local function time(given)
  if given ~= '' then return tonumber(given) end
  local found = call('TIME')
  return tonumber(found[1]) + tonumber(found[2]) / 1e6
end
local function text(number) return string.format('%.17g', number) end
local function clock(world)
  local found = call('HMGET', 'hh:w:' .. world, 'base', 'at', 'speed')
  if not found[1] then return nil end
  return tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
end
local function world_now(world, now)
  local base, at, speed = clock(world)
  if not base then return nil end
  return base + math.max(0, now - at) * speed
end
local function plan(world)
  local first, base, at, speed = call('ZRANGE', 'hh:z:' .. world, 0, 0, 'WITHSCORES'), clock(world)
  local moment = tonumber(first[2])
  if not moment or not base or (moment > base and speed == 0) then
    call('ZREM', 'hh:next', world)
  elseif moment <= base then
    call('ZADD', 'hh:next', text(at), world)
  else
    call('ZADD', 'hh:next', text(at + (moment - base) / speed), world)
  end
end
"""

LOOK = Script(
    _COMMON
    + """
local world, name, provider, id = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local number = call('HGET', 'hh:i:' .. world, name)
local job = number and call('HGET', 'hh:j:' .. world, number)
local owned = id ~= '' and not job and call('HEXISTS', 'hh:owned:' .. provider, id) == 1
return {text(time(ARGV[1])), call('HGET', 'hh:w:' .. world, 'head'), job, owned and 1 or 0}
"""
)

BEGIN = Script(
    _COMMON
    + f"""
local now, world, name, by = time(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
call('SADD', 'hh:worlds', world)
local number = call('HINCRBY', 'hh:w:' .. world, 'begun', 1) - 1
if name == '' then return {{number}} end
local used = call('HGET', 'hh:k:' .. world, name)
if used and cjson.decode(used)['until'] > (world_now(world, now) or now) then return {{number, used}} end
local claim = call('HGET', 'hh:c:' .. world, name)
if claim then
  local lease, claimant = string.match(claim, '^(%S+) (.*)$')
  -- The same claimant asks again when the first reply was lost.
  if claimant ~= by and tonumber(lease) > now then return {{number, '', lease}} end
end
call('HSET', 'hh:c:' .. world, name, text(now + {LEASE_SECONDS}) .. ' ' .. by)
return {{number}}
"""
)

KEEP = Script(
    _COMMON
    + f"""
local own = {{}}
own['@plan'] = plan
own['@begun'] = function(world, begun)
  if tonumber(call('HGET', 'hh:w:' .. world, 'begun') or 0) < tonumber(begun) then
    call('HSET', 'hh:w:' .. world, 'begun', begun)
  end
end
own['@job'] = function(world, number, id, provider, ended, version, record)
  local name = provider .. '\\0' .. id
  if call('HSETNX', 'hh:i:' .. world, name, number) == 1 then call('HINCRBY', 'hh:owned:' .. provider, id, 1) end
  if call('HSET', 'hh:j:' .. world, number, record) == 1 then
    call('ZADD', 'hh:n:' .. world, number, number)
    call('ZADD', 'hh:n:' .. world .. ':' .. provider, number, number)
  end
  call('HSET', 'hh:v:' .. world, number, version)
  call(ended == '' and 'SADD' or 'SREM', 'hh:open:' .. provider, world .. ' ' .. number)
end
own['@lines'] = function(world, count, lines)
  local key = 'hh:e:' .. world
  call('RPUSH', key, count .. ' ' .. lines)
  local total = call('HINCRBY', 'hh:v:' .. world, 'lines', count)
  while true do
    local first = call('LINDEX', key, 0)
    local fewer = first and total - tonumber(string.match(first, '^%d+'))
    if not fewer or fewer < {KEPT_LINES} then break end
    call('LPOP', key)
    total = fewer
  end
  call('HSET', 'hh:v:' .. world, 'lines', total)
end
local function drop_job(world, number, name)
  local provider, id = string.match(name, '^(%Z*)%z(.*)$')
  if call('HINCRBY', 'hh:owned:' .. provider, id, -1) <= 0 then call('HDEL', 'hh:owned:' .. provider, id) end
  call('SREM', 'hh:open:' .. provider, world .. ' ' .. number)
  return provider, id
end
local function drop_due(world, number)
  call('HDEL', 'hh:d:' .. world, number)
  call('ZREM', 'hh:z:' .. world, number)
  call('ZREM', 'hh:taken', world .. ' ' .. number)
end
own['@done'] = drop_due
own['@due'] = function(world, number, moment, record)
  call('HSET', 'hh:d:' .. world, number, record)
  call('ZADD', 'hh:z:' .. world, moment, number)
  call('ZREM', 'hh:taken', world .. ' ' .. number)
end
own['@forget'] = function(world, ...)
  local gone = {{}}
  for _, number in ipairs({{...}}) do
    local record = call('HGET', 'hh:j:' .. world, number)
    if record then
      local job = cjson.decode(record)
      gone[job.id] = true
      drop_job(world, number, job.provider .. '\\0' .. job.id)
      call('HDEL', 'hh:i:' .. world, job.provider .. '\\0' .. job.id)
      call('HDEL', 'hh:j:' .. world, number)
      call('HDEL', 'hh:v:' .. world, number)
      call('ZREM', 'hh:n:' .. world, number)
      call('ZREM', 'hh:n:' .. world .. ':' .. job.provider, number)
    end
  end
  local keys = call('HGETALL', 'hh:k:' .. world)
  for at = 1, #keys, 2 do
    if gone[cjson.decode(keys[at + 1]).job] then call('HDEL', 'hh:k:' .. world, keys[at]) end
  end
  local dues = call('HGETALL', 'hh:d:' .. world)
  for at = 1, #dues, 2 do
    if gone[cjson.decode(dues[at + 1]).job] then drop_due(world, dues[at]) end
  end
end
own['@erase'] = function(world, kind)
  if kind == 'job' then
    local names, providers = call('HGETALL', 'hh:i:' .. world), {{}}
    for at = 1, #names, 2 do providers[drop_job(world, names[at + 1], names[at])] = true end
    for provider in pairs(providers) do call('UNLINK', 'hh:n:' .. world .. ':' .. provider) end
    local version, position, lines = unpack(call('HMGET', 'hh:v:' .. world, 'head', 'log', 'lines'))
    call('UNLINK', 'hh:i:' .. world, 'hh:j:' .. world, 'hh:n:' .. world, 'hh:v:' .. world)
    if version then call('HSET', 'hh:v:' .. world, 'head', version) end
    if position then call('HSET', 'hh:v:' .. world, 'log', position) end
    if lines then call('HSET', 'hh:v:' .. world, 'lines', lines) end
  elseif kind == 'key' then
    call('UNLINK', 'hh:k:' .. world, 'hh:c:' .. world)
  elseif kind == 'due' then
    for _, number in ipairs(call('HKEYS', 'hh:d:' .. world)) do drop_due(world, number) end
  elseif kind == 'exchange' then
    call('UNLINK', 'hh:e:' .. world)
    call('HDEL', 'hh:v:' .. world, 'lines')
  elseif kind == 'attempt' then
    call('UNLINK', 'hh:a:' .. world)
  else
    call('UNLINK', 'hh:w:' .. world, 'hh:v:' .. world)
    call('SREM', 'hh:worlds', world)
    call('ZREM', 'hh:next', world)
    call('HDEL', 'hh:owner', world)
  end
end

-- ARGV: time, world, id of the change, owner, comparisons, (field, version) each, (count, word, ...) each
local world, known = ARGV[2], 'hh:kept:' .. ARGV[3]
if call('EXISTS', known) == 1 then return 1 end
if ARGV[4] ~= '' and call('HGET', 'hh:owner', world) ~= ARGV[4] then return -1 end
local at = 6
for _ = 1, tonumber(ARGV[5]) do
  if (call('HGET', 'hh:v:' .. world, ARGV[at]) or '0') ~= ARGV[at + 1] then return 0 end
  at = at + 2
end
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  local name = ARGV[at + 1]
  if own[name] then own[name](unpack(ARGV, at + 2, last)) else call(unpack(ARGV, at + 1, last)) end
  at = last + 1
end
call('SET', known, '', 'EX', {KNOWN_SECONDS})
return 1
"""
)

TAKE = Script(
    _COMMON
    + f"""
local now, count, ready = time(ARGV[1]), tonumber(ARGV[2]), {{}}
local function add(world, number, free)
  local record = call('HGET', 'hh:d:' .. world, number)
  if record then
    local moment = cjson.decode(record).moment
    table.insert(ready, {{moment, world, tonumber(number), record, free}})
  end
end
for _, name in ipairs(call('ZRANGEBYSCORE', 'hh:taken', '-inf', text(now), 'LIMIT', 0, count)) do
  local world, number = string.match(name, '^(%S*) (.*)$')
  add(world, number, false)
end
for _, world in ipairs(call('ZRANGEBYSCORE', 'hh:next', '-inf', text(now), 'LIMIT', 0, count)) do
  local moment = world_now(world, now)
  if moment then
    for _, number in ipairs(call('ZRANGEBYSCORE', 'hh:z:' .. world, '-inf', text(moment), 'LIMIT', 0, count)) do
      add(world, number, true)
    end
  end
end
table.sort(ready, function(one, other)
  if one[1] ~= other[1] then return one[1] < other[1] end
  if one[2] ~= other[2] then return one[2] < other[2] end
  return one[3] < other[3]
end)
local found, changed = {{}}, {{}}
for at = 1, math.min(count, #ready) do
  local one = ready[at]
  call('ZADD', 'hh:taken', text(now + {LEASE_SECONDS}), one[2] .. ' ' .. text(one[3]))
  if one[5] then
    call('ZREM', 'hh:z:' .. one[2], text(one[3]))
    changed[one[2]] = true
  end
  table.insert(found, one[2])
  table.insert(found, one[4])
end
for world in pairs(changed) do plan(world) end
local first = call('ZRANGE', 'hh:next', 0, 0, 'WITHSCORES')
return {{found, first[2] or '', text(now)}}
"""
)

OWN = Script(
    _COMMON
    + """
-- ARGV: world, process. Returns the process that owns the world, and its address.
local owner, address = call('HGET', 'hh:owner', ARGV[1]), nil
if owner then
  address = call('GET', 'hh:p:' .. owner)
  if address then return {owner, address} end
end
address = call('GET', 'hh:p:' .. ARGV[2])
-- Who has not renewed its own address in time must do that first.
if not address then return {} end
call('HSET', 'hh:owner', ARGV[1], ARGV[2])
return {ARGV[2], address}
"""
)

BEAT = Script(
    _COMMON
    + """
-- ARGV: process, address, milliseconds. Returns whether the address was still there.
local there = call('EXISTS', 'hh:p:' .. ARGV[1])
call('SET', 'hh:p:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
call('SADD', 'hh:ps', ARGV[1])
return there
"""
)

OTHERS = Script(
    _COMMON
    + """
-- ARGV: process. Returns the addresses of the other living processes, and forgets the dead ones.
local found = {}
for _, name in ipairs(call('SMEMBERS', 'hh:ps')) do
  local address = call('GET', 'hh:p:' .. name)
  if not address then call('SREM', 'hh:ps', name)
  elseif name ~= ARGV[1] then table.insert(found, address) end
end
return found
"""
)

ORPHANS = Script(
    _COMMON
    + """
-- ARGV: time, count. Returns the worlds whose next due has come and whose process is dead.
local found = {}
for _, world in ipairs(call('ZRANGEBYSCORE', 'hh:next', '-inf', text(time(ARGV[1])), 'LIMIT', 0, ARGV[2])) do
  local owner = call('HGET', 'hh:owner', world)
  if not owner or call('EXISTS', 'hh:p:' .. owner) == 0 then table.insert(found, world) end
end
return found
"""
)
