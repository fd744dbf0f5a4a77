-- hold writes down the leases of entries that came while somebody waited, and tells whether
-- they still are his: a consumer that said nothing for long may have lost them.
-- ARGV: consumer, when it last showed up, lease in ms, the entries.
local consumer, begun, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = time()
if now > begun + patience / 2 then
	return 0
end
show(consumer, now)
local leases = {}
for i = 4, #ARGV do
	leases[#leases + 1] = score(now + lease, 1)
	leases[#leases + 1] = ARGV[i]
end
redis.call('ZADD', held, unpack(leases))
pass_on(now)
return 1
