-- renew has leases begin anew, and tells of each entry whether it was still his who asks.
-- ARGV: lease in ms, of each the entry, and which delivery of it.
local until_then = time() + ARGV[1]
local now, ids = scores(2)
local leases, told = {}, {}
for i, id in ipairs(ids) do
	local count = tonumber(ARGV[2 * i + 1])
	local mine = owned(now[i], id, count)
	if mine then
		leases[#leases + 1] = score(until_then, count)
		leases[#leases + 1] = id
	end
	told[i] = mine and 1 or 0
end
if #leases > 0 then
	redis.call('ZADD', held, unpack(leases))
end
return told
