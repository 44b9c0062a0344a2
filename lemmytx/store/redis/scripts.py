"""
What runs inside of Redis, where nothing comes in between: Lua, for Redis 5 and newer and its kin.

The names of keys are made in the scripts, so they are for one server with its replicas, not for a cluster.

Rules that all of them keep:

  - Time is Redis' own, so that clocks of instances do not matter.
  - What can fail for good reason (a full memory, a replica) fails at the first write, with nothing done. A score that
    cannot be put right is left as it is; the next one who looks will do it.
  - One call does so much that Redis is held for a few milliseconds; see L{lemmytx.store.redis.loading.SLICE}.
"""

from __future__ import annotations

from hashlib import sha1

from lemmytx.store.redis.said import command


class Script:
    """
    A script, called by its digest.

    @ivar text: as Redis gets it once for each connection.
    """

    def __init__(self, text: str) -> None:
        self.text = text.encode("ascii")
        self._digest = sha1(self.text).hexdigest().encode()

    def call(self, *arguments: bytes) -> bytes:
        """
        @return: the command.
        """
        return command(b"EVALSHA", self._digest, b"0", *arguments)


# ARGV[1] is the prefix everywhere.
#
# alive():     sets now, and living: the ids whose lease is not over.
# right(name): makes the scores of a vhost the sums over the living instances, and forgets the counts of dead ones.
#              A score is changed by ZINCRBY, which is another event (zincr) than an operator's ZADD, so that those who
#              follow events can tell them apart. Only members that are there are touched.
_PRELUDE = """
if redis.replicate_commands then redis.replicate_commands() end
local p = ARGV[1]
local now, living
local function alive()
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1000000
  living = {}
  local ids = redis.pcall('ZRANGEBYSCORE', p .. ':instances', string.format('(%.3f', now), '+inf')
  if not ids.err then
    for _, id in ipairs(ids) do living[id] = true end
  end
end
local function right(name, ranked)
  local key, counts = p .. ':backends:' .. name, p .. ':counts:' .. name
  ranked = ranked or redis.pcall('ZRANGE', key, 0, -1, 'WITHSCORES')
  if ranked.err then return end
  local sums, held = {}, redis.pcall('HGETALL', counts)
  if held.err then return end
  for i = 1, #held, 2 do
    local id, member = string.match(held[i], '^(%S+) (.*)$')
    if id and living[id] then
      sums[member] = (sums[member] or 0) + (tonumber(held[i + 1]) or 0)
    else
      redis.pcall('HDEL', counts, held[i])
    end
  end
  for i = 1, #ranked, 2 do
    local want, have = sums[ranked[i]] or 0, tonumber(ranked[i + 1])
    if have ~= want then
      if have and have > -1e15 and have < 1e15 and have == math.floor(have) then
        redis.pcall('ZINCRBY', key, string.format('%d', want - have), ranked[i])
      else
        redis.pcall('ZADD', key, 'XX', string.format('%d', want), ranked[i])
      end
    end
  end
end
"""

#: ARGV: prefix, names of vhosts. Gives 16 characters for each, which are others when its members, their attributes or
#: its settings are; scores do not count. And it puts the scores right.
DIGEST = Script(
    _PRELUDE
    + """
alive()
local digests = {}
for i = 2, #ARGV do
  local name = ARGV[i]
  local parts, texts = {}, {}
  local ranked = redis.pcall('ZRANGE', p .. ':backends:' .. name, 0, -1, 'WITHSCORES')
  if ranked.err then
    parts[1] = '!'
  else
    for j = 1, #ranked, 2 do parts[#parts + 1] = #ranked[j] .. ':' .. ranked[j] end
    table.sort(parts)
    right(name, ranked)
  end
  local attributes = redis.pcall('HGETALL', p .. ':attributes:' .. name)
  if attributes.err then
    texts[1] = '!'
  else
    for j = 1, #attributes, 2 do
      texts[#texts + 1] = #attributes[j] .. ':' .. attributes[j] .. '=' .. attributes[j + 1]
    end
    table.sort(texts)
  end
  local settings = redis.pcall('GET', p .. ':settings:' .. name)
  if type(settings) == 'table' then settings = '!' end
  digests[#digests + 1] = string.sub(redis.sha1hex(
    table.concat(parts, ',') .. ';' .. table.concat(texts, ',') .. ';' .. (settings or '')), 1, 16)
end
return table.concat(digests)
"""
)

#: ARGV: prefix, id, lease in ms, record, number of vhosts with changes, for each of them: name, number of members,
#: whether any is left, for each member: its text, requests in flight; then names of vhosts that are asked about.
#: Gives whether the instance was known, and for the latter name, number of members, and member and sum of the others.
#: What is left by dead ones is taken away, a hundred vhosts at a time.
PUBLISH = Script(
    _PRELUDE
    + """
local id, lease, key = ARGV[2], tonumber(ARGV[3]), p .. ':instances'
alive()
redis.call('ZADD', key, string.format('%.3f', now + lease / 1000), id)
redis.call('SET', p .. ':instance:' .. id, ARGV[4], 'PX', lease)
local known = living[id] and 1 or 0
living[id] = true
local at = 6
for _ = 1, tonumber(ARGV[5]) do
  local name, members, left = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local counts = p .. ':counts:' .. name
  at = at + 3
  for _ = 1, members do
    if ARGV[at + 1] == '0' then
      redis.pcall('HDEL', counts, id .. ' ' .. ARGV[at])
    else
      redis.pcall('HSET', counts, id .. ' ' .. ARGV[at], ARGV[at + 1])
    end
    at = at + 2
  end
  redis.call(left == '1' and 'SADD' or 'SREM', p .. ':counted:' .. id, name)
  right(name)
end
redis.call('PEXPIRE', p .. ':counted:' .. id, 86400000)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', string.format('%.3f', now), 'LIMIT', 0, 3)) do
  local counted = p .. ':counted:' .. dead
  local names = redis.call('SPOP', counted, 100)
  for _, name in ipairs(names) do right(name) end
  if redis.call('EXISTS', counted) == 0 then
    redis.call('ZREM', key, dead)
    redis.call('DEL', p .. ':instance:' .. dead)
  end
end
local answer = {known}
for i = at, #ARGV do
  local sums, held = {}, redis.pcall('HGETALL', p .. ':counts:' .. ARGV[i])
  if not held.err then
    for j = 1, #held, 2 do
      local other, member = string.match(held[j], '^(%S+) (.*)$')
      if other and other ~= id and living[other] then
        sums[member] = (sums[member] or 0) + (tonumber(held[j + 1]) or 0)
      end
    end
  end
  answer[#answer + 1] = ARGV[i]
  answer[#answer + 1] = 0
  local place, number = #answer, 0
  for member, sum in pairs(sums) do
    answer[#answer + 1] = member
    answer[#answer + 1] = sum
    number = number + 1
  end
  answer[place] = number
end
return answer
"""
)

#: ARGV: prefix, id. Takes an instance out, a hundred vhosts at a time; gives how many are left to do.
LEAVE = Script(
    _PRELUDE
    + """
local id = ARGV[2]
alive()
living[id] = nil
redis.call('ZADD', p .. ':instances', 'XX', string.format('%.3f', now), id)
local counted = p .. ':counted:' .. id
for _, name in ipairs(redis.call('SPOP', counted, 100)) do right(name) end
local left = redis.call('SCARD', counted)
if left == 0 then
  redis.call('ZREM', p .. ':instances', id)
  redis.call('DEL', p .. ':instance:' .. id)
end
return left
"""
)

#: ARGV: prefix. Gives id, milliseconds of its lease and record of each living instance.
INSTANCES = Script(
    _PRELUDE
    + """
alive()
local answer = {}
local ranked = redis.call('ZRANGEBYSCORE', p .. ':instances', string.format('(%.3f', now), '+inf', 'WITHSCORES')
for i = 1, #ranked, 2 do
  local record = redis.pcall('GET', p .. ':instance:' .. ranked[i])
  if type(record) ~= 'string' then record = '' end
  answer[#answer + 1] = ranked[i]
  answer[#answer + 1] = math.floor((tonumber(ranked[i + 1]) - now) * 1000)
  answer[#answer + 1] = record
end
return answer
"""
)

#: ARGV: prefix, what to announce, then changes, each with its kind and what belongs to it:
#: +V name settings, -V name, +M name member attributes, -M name member, +S field state, -S field; settings and
#: attributes are empty where there are none. Gives the number of the change. All keys are looked at before any is
#: written.
CHANGE = Script(
    """
if redis.replicate_commands then redis.replicate_commands() end
local p = ARGV[1]
local lengths = {['+V'] = 3, ['-V'] = 2, ['+M'] = 4, ['-M'] = 3, ['+S'] = 3, ['-S'] = 2}
local looked = {}
local function look(key, kind)
  if looked[key] then return end
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= kind then
    error({err = 'TABLE ' .. key .. ' is a ' .. found .. ' instead of a ' .. kind})
  end
  looked[key] = true
end
local function check()
  look(p .. ':table', 'hash')
  local at = 3
  while at <= #ARGV do
    local kind, name = ARGV[at], ARGV[at + 1]
    if kind == '+S' or kind == '-S' then
      look(p .. ':states', 'hash')
    else
      look(p .. ':vhosts', 'set')
      if kind == '+M' or kind == '-M' then
        look(p .. ':backends:' .. name, 'zset')
        look(p .. ':attributes:' .. name, 'hash')
      end
    end
    at = at + lengths[kind]
  end
end
local fine, why = pcall(check)
if not fine then return type(why) == 'table' and why or redis.error_reply(tostring(why)) end
local number = redis.call('HINCRBY', p .. ':table', 'changes', 1)
local at, filled, dropped = 3, false, false
while at <= #ARGV do
  local kind, name, third, fourth = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  filled = filled or kind == '+V' or kind == '+M'
  dropped = dropped or kind == '-V'
  if kind == '+V' then
    redis.call('SADD', p .. ':vhosts', name)
    if third == '' then
      redis.call('DEL', p .. ':settings:' .. name)
    else
      redis.call('SET', p .. ':settings:' .. name, third)
    end
  elseif kind == '-V' then
    redis.call('SREM', p .. ':vhosts', name)
    redis.call('DEL', p .. ':backends:' .. name, p .. ':attributes:' .. name, p .. ':settings:' .. name,
      p .. ':counts:' .. name, p .. ':stats:' .. name, p .. ':shares:' .. name)
  elseif kind == '+M' then
    redis.call('SADD', p .. ':vhosts', name)
    redis.call('ZADD', p .. ':backends:' .. name, 'NX', 0, third)
    if fourth == '' then
      redis.call('HDEL', p .. ':attributes:' .. name, third)
    else
      redis.call('HSET', p .. ':attributes:' .. name, third, fourth)
    end
  elseif kind == '-M' then
    redis.call('ZREM', p .. ':backends:' .. name, third)
    redis.call('HDEL', p .. ':attributes:' .. name, third)
  elseif kind == '+S' then
    redis.call('HSET', p .. ':states', name, third)
  else
    redis.call('HDEL', p .. ':states', name)
  end
  at = at + lengths[kind]
end
if redis.call('EXISTS', p .. ':vhosts') == 1 then
  if filled then
    redis.call('HSET', p .. ':table', 'version', 1)
    redis.call('HDEL', p .. ':table', 'empty')
  end
elseif dropped then
  redis.call('HSET', p .. ':table', 'version', 1, 'empty', 1)
end
redis.call('PUBLISH', p .. ':changes', number .. ' ' .. ARGV[2])
return number
"""
)

#: ARGV: prefix, id, seconds for which they stay, then statistics of vhosts: name, number of words, field, value, …
#: Writes what the living instances say together: numbers are added up, and so are those in objects that count
#: something; averages are made anew of the totals, and so are times as text; of anything else that of the last writer
#: counts.
STATISTICS = Script(
    _PRELUDE
    + """
local id, last = ARGV[2], ARGV[3]
alive()
living[id] = true
local function number(value)
  if value == math.floor(value) and value > -1e15 and value < 1e15 then return string.format('%d', value) end
  return string.format('%.14g', value)
end
local function clock(seconds)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local whole = math.floor(rest)
  local text = string.format('%d:%02d:%02d', math.floor(whole / 3600), math.floor(whole / 60) % 60, whole % 60)
  local micro = math.floor((rest - whole) * 1000000 + 0.5)
  if micro > 0 and micro < 1000000 then text = text .. string.format('.%06d', micro) end
  if days > 0 then text = days .. (days == 1 and ' day, ' or ' days, ') .. text end
  return text
end
local function object(text)
  local fine, found = pcall(cjson.decode, text)
  return fine and type(found) == 'table' and found or nil
end
local function counts(name)
  return string.find(name, '_count$') or string.find(name, '_classes$') or string.find(name, '_per_sec$')
end
local function together(mine, parts)
  local sums, objects = {}, {}
  for _, part in ipairs(parts) do
    for i = 1, #part, 2 do
      local name, value = part[i], part[i + 1]
      if tonumber(value) then
        sums[name] = (sums[name] or 0) + tonumber(value)
      elseif counts(name) then
        local sum = objects[name] or {}
        for key, each in pairs(object(value) or {}) do
          if type(each) == 'number' then sum[key] = (sum[key] or 0) + each end
        end
        objects[name] = sum
      end
    end
  end
  local answer = {}
  for i = 1, #mine, 2 do
    local name, value = mine[i], mine[i + 1]
    local of = string.match(name, '^average_(.+)$')
    if of and sums['total_' .. of] and sums.total_count then
      value = number(sums['total_' .. of] / math.max(1, sums.total_count))
    elseif of and sums['total_' .. of .. '_sec'] and sums.total_count then
      value = clock(sums['total_' .. of .. '_sec'] / math.max(1, sums.total_count))
    elseif not tonumber(value) and sums[name .. '_sec'] then
      value = clock(sums[name .. '_sec'])
    elseif sums[name] then
      value = number(sums[name])
    elseif objects[name] and next(objects[name]) then
      value = cjson.encode(objects[name])
    end
    answer[#answer + 1] = name
    answer[#answer + 1] = value
  end
  return answer
end
local at = 4
while at <= #ARGV do
  local name, words = ARGV[at], tonumber(ARGV[at + 1])
  local mine = {}
  for i = at + 2, at + 1 + words do mine[#mine + 1] = ARGV[i] end
  at = at + 2 + words
  local shares, key = p .. ':shares:' .. name, p .. ':stats:' .. name
  local parts, held = {mine}, redis.pcall('HGETALL', shares)
  if not held.err then
    for i = 1, #held, 2 do
      if not living[held[i]] then
        redis.pcall('HDEL', shares, held[i])
      elseif held[i] ~= id then
        parts[#parts + 1] = object(held[i + 1])
      end
    end
    redis.call('HSET', shares, id, cjson.encode(mine))
    redis.call('EXPIRE', shares, last)
  end
  local whole = #parts > 1 and together(mine, parts) or mine
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' or kind == 'hash' then
    for i = 1, #whole, 2 do redis.call('HSET', key, whole[i], whole[i + 1]) end
    redis.call('EXPIRE', key, last)
  end
end
"""
)

ALL = (DIGEST, PUBLISH, LEAVE, INSTANCES, CHANGE, STATISTICS)
