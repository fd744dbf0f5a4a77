#!lua flags=allow-oom
-- What all scripts begin with. They run where memory is full, too: else nothing could be
-- received, acknowledged and so freed.
--
-- stream   the entries; its group knows who has which, and how often each was delivered
-- held     a sorted set of the entries that somebody has or that wait: when others may have
--          them, and whose they are (see score)
-- wake     a stream of which one entry wakes one who waits
-- seen     a sorted set of consumers: until when they will have shown up again
local stream, held, wake, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group = 'navvy'
local patience = 60000 -- ms: how long a consumer may say nothing until somebody looks after it
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

-- owned tells whether an entry of that score still is leased by that delivery.
local function owned(is, count)
	return is and tonumber(is) % 1024 == count % 1023 + 1
end

-- show says that a consumer is alive, now and then.
local function show(consumer, now)
	local last = redis.call('ZSCORE', seen, consumer)
	if not last or tonumber(last) < now + patience * 3 / 4 then
		redis.call('ZADD', seen, now + patience, consumer)
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
end
