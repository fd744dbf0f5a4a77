-- count tells how many entries wait, how many somebody has or gave back for later, and how
-- many dead letters there are. KEYS[5]: the dead letters. A lease that is over and that
-- nobody has looked at counts as one until somebody does.
local all = redis.call('XLEN', stream)
local mine = redis.call('XPENDING', stream, group)[1]
local due = redis.call('ZCOUNT', held, '-inf', score(time() + 1) - 1)
local leased = math.max(0, math.min(mine - due, all))
return {all - leased, leased, redis.call('XLEN', KEYS[5])}
