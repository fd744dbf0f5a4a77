package redisqueue

import (
	_ "embed" // the scripts

	"github.com/redis/go-redis/v9"
)

//go:embed script/lib.lua
var lib string

//go:embed script/take.lua
var take string

//go:embed script/pass.lua
var pass string

//go:embed script/ack.lua
var ack string

//go:embed script/renew.lua
var renew string

//go:embed script/nack.lua
var nack string

//go:embed script/dead.lua
var dead string

//go:embed script/move.lua
var move string

//go:embed script/peek.lua
var peek string

//go:embed script/count.lua
var count string

//go:embed script/leave.lua
var leave string

//go:embed script/setup.lua
var setup string

var (
	setupScript = redis.NewScript(lib + setup)
	takeScript  = redis.NewScript(lib + take)
	passScript  = redis.NewScript(lib + pass)
	ackScript   = redis.NewScript(lib + ack)
	renewScript = redis.NewScript(lib + renew)
	nackScript  = redis.NewScript(lib + nack)
	deadScript  = redis.NewScript(lib + dead)
	leaveScript = redis.NewScript(lib + leave)
	moveScript  = redis.NewScript(lib + move)
	peekScript  = redis.NewScript(lib + peek)
	countScript = redis.NewScript(lib + count)

	// scripts are loaded by each connection; who uses them sends their hash alone.
	scripts = []*redis.Script{setupScript, takeScript, passScript, ackScript, renewScript, nackScript, deadScript, leaveScript, moveScript, peekScript, countScript}
)
