-- setup makes the streams that it is given, and the group in each, where they are missing.
for _, key in ipairs(KEYS) do
	local made = redis.pcall('XGROUP', 'CREATE', key, group, '0', 'MKSTREAM')
	if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
		return made
	end
end
return 1
