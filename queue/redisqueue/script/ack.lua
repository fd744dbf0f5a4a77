-- ack removes entries for good, and tells of each whether it was still his who asks.
-- ARGV: of each the entry, and which delivery of it.
local now, ids = scores(1)
local done, told, written = {}, {}, {}
for i, id in ipairs(ids) do
	local count, mine = tonumber(ARGV[2 * i]), nil
	if now[i] then
		mine = owned(now[i], id, count)
	else
		mine = count == 1 -- unless it is gone, see below
	end
	if mine then
		done[#done + 1] = id
	end
	if mine and now[i] then
		written[#written + 1] = id
	end
	told[i] = mine and 1 or 0
end
if #done > 0 then
	if redis.call('XACK', stream, group, unpack(done)) < #done then
		-- Some belong to nobody any more: somebody else had them, and acknowledged them.
		for i, id in ipairs(ids) do
			if not now[i] and #redis.call('XRANGE', stream, id, id) == 0 then
				told[i] = 0
			end
		end
	end
	redis.call('XDEL', stream, unpack(done))
end
if #written > 0 then
	redis.call('ZREM', held, unpack(written))
end
return told
