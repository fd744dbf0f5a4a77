-- take gives entries that somebody may have now, or tells in how many ms there may be one.
-- ARGV: consumer, how many, entries of wake that were read.
local consumer, most, lease = ARGV[1], tonumber(ARGV[2]), lease_of(ARGV[1])
local now = time()
if #ARGV > 2 then
	redis.call('XACK', wake, group, unpack(ARGV, 3))
end
show(consumer, now)

-- look puts into held what a consumer was given so long ago that its lease is over, and
-- tells whether it has anything, and when the first of what is left will be over.
local function look(consumer)
	local lease, from, any = lease_of(consumer), '-', false
	local first = now + math.max(lease, 1000)
	repeat
		local pending, ids = redis.call('XPENDING', stream, group, from, '+', 1000, consumer), {}
		for i, p in ipairs(pending) do
			ids[i] = p[1]
		end
		local scores = #ids > 0 and redis.call('ZMSCORE', held, unpack(ids))
		for i, p in ipairs(pending) do
			if not scores[i] and p[3] >= lease then
				redis.call('ZADD', held, score(now, p[4]), p[1])
			elseif not scores[i] then
				first = math.min(first, now + lease - p[3])
			end
		end
		any = any or #ids > 0
		from = '(' .. (ids[#ids] or '')
	until #ids < 1000
	return any, first
end

-- sweep sees to it that somebody looks at each consumer that has anything. One may have been
-- removed, because it said nothing for long, while its next question was on its way.
local function sweep()
	for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
		local name, pending = info[2], info[4]
		if pending > 0 and name ~= 'nobody' then
			redis.call('ZADD', seen, 'NX', now * 64, name)
		end
	end
	redis.call('ZADD', seen, (now + patience) * 64, '*')
end

local looks = redis.call('ZRANGE', seen, '-inf', now * 64 + 63, 'BYSCORE', 'LIMIT', 0, 10, 'WITHSCORES')
for i = 1, #looks, 2 do
	local name, quiet = looks[i], tonumber(looks[i + 1]) % 64
	if name == '*' then
		sweep()
	else
		local any, first = look(name)
		if not any and quiet > 0 and quiet * math.max(lease_of(name), 1000) >= patience then
			forget(name)
		else
			redis.call('ZADD', seen, first * 64 + (any and 0 or math.min(quiet + 1, 63)), name)
		end
	end
end

local taken, leases = {}, {}

local due = redis.call('ZRANGE', held, '-inf', score(now + 1) - 1, 'BYSCORE', 'LIMIT', 0, most)
if #due > 0 then
	redis.call('ZREM', held, unpack(due)) -- those that were deleted by others do not come back
	for _, e in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unpack(due))) do
		local count = redis.call('XPENDING', stream, group, e[1], e[1], 1, consumer)[1][4]
		taken[#taken + 1] = {e[1], count, e[2]}
		leases[#leases + 1] = score(now + lease, count)
		leases[#leases + 1] = e[1]
	end
end
if #taken < most then
	local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most - #taken, 'STREAMS', stream, '>')
	for _, e in ipairs(fresh and fresh[1][2] or {}) do
		taken[#taken + 1] = {e[1], 1, e[2]}
	end
end
if #leases > 0 then
	redis.call('ZADD', held, unpack(leases))
end
if #taken > 0 then
	pass_on(now)
	return {0, 0, taken}
end
-- Who was given something while he waited has his lease since then; by his clock since he
-- began to wait, and so not for long.
local wait = math.min(soon, math.floor(lease / 4))
local first = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
if first[2] and at(first[2]) < now + wait then
	return {math.max(1, at(first[2]) - now), 1, taken}
end
return {wait, 0, taken}
