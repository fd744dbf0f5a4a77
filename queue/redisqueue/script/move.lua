-- move puts an entry behind all others of a stream, and tells whether it was still his who
-- asks. ARGV: '1' to leave out what it has as a dead letter, the entry, and which delivery of
-- it. KEYS[5]: the stream.
local id, home = ARGV[2], ARGV[1] == '1'
if not owned(redis.call('ZSCORE', held, id), id, tonumber(ARGV[3])) then
	return 0
end
local entry = redis.call('XRANGE', stream, id, id)[1]
if entry then
	local fields, has = {}, {}
	for i = 1, #entry[2], 2 do
		local name = entry[2][i]
		if not (home and (name == 'reason' or name == 'navvy-tried')) then
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
	redis.call('XADD', KEYS[5], '*', unpack(fields))
end
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
redis.call('ZREM', held, id)
return 1
