-- take gives entries that somebody may have now, or tells in how many ms there may be one.
-- ARGV: consumer, how many, lease in ms, entries of wake that were read.
local consumer, most, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = time()
if #ARGV > 3 then
	redis.call('XACK', wake, group, unpack(ARGV, 4))
end
show(consumer, now)

-- A consumer may have died after it was given entries and before it wrote that down.
for _, silent in ipairs(redis.call('ZRANGE', seen, '-inf', now, 'BYSCORE', 'LIMIT', 0, 10)) do
	local pending = redis.call('XPENDING', stream, group, '-', '+', 1000, silent)
	for _, p in ipairs(pending) do
		redis.call('ZADD', held, 'NX', score(now), p[1])
	end
	if #pending == 0 then
		forget(silent)
	else
		redis.call('ZADD', seen, now + patience, silent)
	end
end

local taken, leases = {}, {}
local function take(entry, count)
	taken[#taken + 1] = {entry[1], count, entry[2]}
	leases[#leases + 1] = score(now + lease, count)
	leases[#leases + 1] = entry[1]
end

local due = redis.call('ZRANGE', held, '-inf', score(now + 1) - 1, 'BYSCORE', 'LIMIT', 0, most)
if #due > 0 then
	redis.call('ZREM', held, unpack(due)) -- those that were deleted by others do not come back
	for _, e in ipairs(redis.call('XCLAIM', stream, group, consumer, 0, unpack(due))) do
		take(e, redis.call('XPENDING', stream, group, e[1], e[1], 1, consumer)[1][4])
	end
end
if #taken < most then
	local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most - #taken, 'STREAMS', stream, '>')
	for _, e in ipairs(fresh and fresh[1][2] or {}) do
		take(e, 1)
	end
end
if #taken > 0 then
	redis.call('ZADD', held, unpack(leases))
	pass_on(now)
	return {now, 0, taken}
end
local first = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
local wait = soon
if first[2] then
	wait = math.max(1, math.min(soon, at(first[2]) - now))
end
return {now, wait, taken}
