-- nack gives an entry back, and tells whether it was still his who asks.
-- ARGV: delay in ms, the entry, and which delivery of it.
if not owned(redis.call('ZSCORE', held, ARGV[2]), ARGV[2], tonumber(ARGV[3])) then
	return 0
end
-- It belongs to nobody then. Its deliveries are not counted by this.
redis.call('XCLAIM', stream, group, 'nobody', 0, ARGV[2], 'JUSTID')
redis.call('ZADD', held, score(time() + ARGV[1]), ARGV[2])
rouse()
return 1
