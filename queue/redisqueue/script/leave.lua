-- leave removes a consumer that says good-bye, unless it still has something.
-- ARGV: consumer.
if #redis.call('XPENDING', stream, group, '-', '+', 1, ARGV[1]) == 0 then
	forget(ARGV[1])
end
return 1
