-- peek shows entries in their order, and of each how often it was delivered, and whether
-- somebody has it or gave it back for later. ARGV: how many.
local now, list = time(), {}
local entries = redis.call('XRANGE', stream, '-', '+', 'COUNT', ARGV[1])
for i, e in ipairs(entries) do
	local pending = redis.call('XPENDING', stream, group, e[1], e[1], 1)[1]
	local is, leased = redis.call('ZSCORE', held, e[1]), 0
	if is then
		leased = at(is) > now and 1 or 0
	elseif pending then
		leased = pending[3] < lease_of(pending[2]) and 1 or 0
	end
	list[i] = {e[1], pending and pending[4] or 0, e[2], leased}
end
return list
