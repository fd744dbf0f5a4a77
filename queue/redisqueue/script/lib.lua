#!lua flags=allow-oom
-- What all scripts begin with. They run where memory is full, too: else nothing could be
-- received, acknowledged and so freed.
--
-- stream   the entries; its group knows who has which, and how often each was delivered
-- held     a sorted set of entries that somebody has or that wait: when others may have them,
--          and whose they are (see score). One that was delivered once, and is not in it, is
--          leased to its consumer for the consumer's lease, from its delivery on: what is
--          acknowledged soon is never written here, and a delivery has its lease at once
-- wake     a stream of which one entry wakes one who waits
-- seen     a sorted set of consumers: when somebody is to look for leases of theirs that are
--          over and not in held (see look)
local stream, held, wake, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group = 'navvy'
local patience = 60000 -- ms: how long a consumer that has nothing may say nothing until it is removed
local soon = 5000      -- ms: nobody waits longer than that without looking

local function time()
	local t = redis.call('TIME')
	return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- score is that of an entry in held: when others may have it, in ms, times 1024, plus which
-- delivery of it has it, modulo 1023, or 0 for none. Who comes with another delivery has
-- lost his lease. It is a whole number that a double holds exactly: sets that are short
-- keep such ones as they are, and others as text.
local function score(at, count)
	return at * 1024 + (count and count % 1023 + 1 or 0)
end

local function at(score)
	return math.floor(tonumber(score) / 1024)
end

-- scores are those of entries in held, from the first argument on; of each the next one is
-- which delivery of it is meant.
local function scores(first)
	local ids = {}
	for i = first, #ARGV, 2 do
		ids[#ids + 1] = ARGV[i]
	end
	return redis.call('ZMSCORE', held, unpack(ids)), ids
end

-- owned tells whether an entry of that score, or of none, still is leased by that delivery.
local function owned(is, id, count)
	if is then
		return tonumber(is) % 1024 == count % 1023 + 1
	end
	return count == 1 and #redis.call('XPENDING', stream, group, id, id, 1) == 1
end

-- lease_of is how long a consumer has what it is given, in ms: its name ends with that.
local function lease_of(consumer)
	return tonumber(string.match(consumer, '%-(%d+)$')) or patience
end

-- A score in seen is when to look, in ms, times 64, plus how often nothing was found since
-- the consumer last showed up.

-- show says that a consumer is alive. It is written down once for each time somebody looks.
local function show(consumer, now)
	local is = tonumber(redis.call('ZSCORE', seen, consumer))
	if not is then
		redis.call('ZADD', seen, (now + lease_of(consumer)) * 64, consumer)
		redis.call('ZADD', seen, 'NX', (now + patience) * 64, '*') -- see sweep
	elseif is % 64 > 0 then
		redis.call('ZADD', seen, is - is % 64, consumer)
	end
end

-- rouse wakes one who waits. If nobody does, the next one looks once more, no matter how
-- often nobody did.
local function rouse()
	redis.call('XADD', wake, 'MAXLEN', 1, '*', 'wake', '1')
end

-- pass_on sees to it that somebody waits for what is due next, when one who may have
-- waited for it goes away with something else.
local function pass_on(now)
	local first = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')
	if first[2] and at(first[2]) <= now + soon then
		rouse()
	end
end

-- forget removes a consumer that has nothing.
local function forget(consumer)
	redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
	redis.call('XGROUP', 'DELCONSUMER', wake, group, consumer)
	redis.call('ZREM', seen, consumer)
	if redis.call('ZCARD', seen) == 1 then
		redis.call('ZREM', seen, '*')
	end
end

-- of_dead are the fields that dead letters alone have.
local of_dead = {reason = true, ['navvy-tried'] = true}

-- moved adds these fields to another stream, and behind them those of an entry but for some,
-- and removes the entry. It tells, as a number, whether that delivery of it still had it.
local function moved(to, id, count, fields, without)
	if not owned(redis.call('ZSCORE', held, id), id, count) then
		return 0
	end
	local entry = redis.call('XRANGE', stream, id, id)[1]
	if entry then
		local has = {}
		for i = 1, #entry[2], 2 do
			local name = entry[2][i]
			if not without[name] then
				has[name] = true
				fields[#fields + 1] = name
				fields[#fields + 1] = entry[2][i + 1]
			end
		end
		if not has.id then
			fields[#fields + 1] = 'id'
			fields[#fields + 1] = id
		end
		if not has.sent then
			fields[#fields + 1] = 'sent'
			fields[#fields + 1] = string.match(id, '^%d+')
		end
		redis.call('XADD', to, '*', unpack(fields))
	end
	redis.call('XACK', stream, group, id)
	redis.call('XDEL', stream, id)
	redis.call('ZREM', held, id)
	return 1
end
