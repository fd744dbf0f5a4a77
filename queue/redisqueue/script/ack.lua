-- ack removes entries for good, and tells of each whether it was still his who asks.
-- ARGV: of each the entry, and which delivery of it.
local now, ids = scores(1)
local done, told = {}, {}
for i, id in ipairs(ids) do
	local mine = owned(now[i], tonumber(ARGV[2 * i]))
	if mine then
		done[#done + 1] = id
	end
	told[i] = mine and 1 or 0
end
if #done > 0 then
	redis.call('XACK', stream, group, unpack(done))
	redis.call('XDEL', stream, unpack(done))
	redis.call('ZREM', held, unpack(done))
end
return told
