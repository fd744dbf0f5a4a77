-- dead moves an entry to the dead letters, and tells whether it was still his who asks.
-- ARGV: reason, the entry, and which delivery of it. KEYS[5]: the dead letters.
local id = ARGV[2]
if not owned(redis.call('ZSCORE', held, id), id, tonumber(ARGV[3])) then
	return 0
end
local entry = redis.call('XRANGE', stream, id, id)[1]
if entry then
	local fields = {'reason', ARGV[1], 'navvy-tried', ARGV[3]}
	local has = {}
	for i = 1, #entry[2], 2 do
		if entry[2][i] ~= 'reason' and entry[2][i] ~= 'navvy-tried' then
			has[entry[2][i]] = true
			fields[#fields + 1] = entry[2][i]
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
	redis.call('XADD', KEYS[5], '*', unpack(fields))
end
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
redis.call('ZREM', held, id)
return 1
