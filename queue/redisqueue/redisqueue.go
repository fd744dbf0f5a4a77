// Package redisqueue keeps queues in streams of Redis 7 or later.
//
//	redis://USER:PASSWORD@HOST:PORT/QUEUE?db=N
//	rediss://…                                    over TLS
//
// The stream has the queue's name, and one consumer group, navvy. An entry has the fields
// id, correlation (if there is one) and body; one that somebody else added may have others
// (see body). The first delivery of an entry is its lease, for as long as the name of its
// consumer says. Later ones, and those that were renewed or given back, are in a sorted set
// beside the stream, so that receivers may want different leases, a message can wait, and who
// acknowledges too late is told; whatever touches both is one script. Who waits is blocked
// in the broker by XREADGROUP, on the stream and on a second one that wakes it when a message
// was given back.
//
// Dead letters of QUEUE are in the queue QUEUE.dead, whose key is {QUEUE}.dead: all keys of
// a queue are in one slot.
//
// What was confirmed survives a crash of Redis as far as Redis is told to keep it: with
// appendonly yes and appendfsync always all of it, with appendfsync everysec all but the
// last second, without appendonly what the last snapshot has.
package redisqueue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

const (
	group    = "navvy"
	maxBody  = 64 << 20
	maxBatch = 1000

	ioTimeout = 10 * time.Second
)

// quiet keeps the client from writing to standard error by a logger of its own: all that
// it would tell comes back as errors.
var quiet = sync.OnceFunc(logging.Disable)

// Driver reads URLs of the forms redis://HOST:PORT/QUEUE and rediss://HOST:PORT/QUEUE, with
// the option db and those of driver.TLS.
func Driver(u *url.URL, o *driver.Options) (driver.Dial, error) {
	quiet()
	opts, err := options(u)
	if err != nil {
		return nil, err
	}
	name, err := driver.Name(u)
	if err != nil {
		return nil, err
	}
	k, err := keysOf(name)
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", navvy.ShownURL(u), err)
	}
	lease, create := o.Lease, o.Create
	return func(ctx context.Context) (driver.Queue, error) { return dial(ctx, opts, k, lease, create) }, nil
}

// options are those of the client; it connects to nothing yet.
func options(u *url.URL) (*redis.Options, error) {
	values, err := driver.Query(u, append([]string{"db"}, driver.TLSOptions...)...)
	if err != nil {
		return nil, err
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return nil, fmt.Errorf("queue %s: the form is %s://HOST:PORT/QUEUE: %w", navvy.ShownURL(u), u.Scheme, navvy.ErrInvalid)
	}
	if port == "" {
		port = "6379"
	}
	opts := &redis.Options{
		Addr: net.JoinHostPort(host, port), Protocol: 2,
		ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1, // package queue tries again, with its own pauses
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if db := values.Get("db"); db != "" {
		if opts.DB, err = strconv.Atoi(db); err != nil || opts.DB < 0 {
			return nil, fmt.Errorf("queue %s: option db is %q: the number of a database: %w", navvy.ShownURL(u), db, navvy.ErrInvalid)
		}
	}
	if u.User != nil {
		opts.Username = u.User.Username()
		opts.Password, _ = u.User.Password()
	}
	opts.TLSConfig, err = driver.TLS(u, values, u.Scheme != "rediss")
	return opts, err
}

// dial connects, and finds or makes the queue.
func dial(ctx context.Context, opts *redis.Options, k keys, lease time.Duration, create bool) (driver.Queue, error) {
	waitOpts := *opts
	waitOpts.PoolSize = 10_000 // opened as they are needed: one for each that waits
	c := &conn{
		keys: k, lease: lease, consumer: fmt.Sprintf("%s-%d", rand.Text(), lease.Milliseconds()),
		commands: redis.NewClient(opts), waits: redis.NewClient(&waitOpts),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	err := c.setUp(ctx, create)
	if err == nil {
		return c, nil
	}
	c.cancel(errGone)
	return nil, errors.Join(err, c.closeClients())
}

// setUp finds or makes the streams and their group, and has the broker learn the scripts.
func (c *conn) setUp(ctx context.Context, create bool) error {
	kind, err := c.commands.Type(ctx, c.keys.stream).Result()
	if err != nil {
		return c.wrap("find the queue", err)
	}
	switch {
	case kind == "none" && !create:
		return fmt.Errorf("redisqueue: there is no queue %s: %w", c.keys.name, navvy.ErrNotFound)
	case kind != "none" && kind != "stream":
		return fmt.Errorf("redisqueue: key %s is a %s, and a queue is a stream: take another name: %w", c.keys.stream, kind, navvy.ErrConflict)
	}
	for _, s := range scripts {
		if err := s.Load(ctx, c.commands).Err(); err != nil {
			return c.wrap("load a script", err)
		}
	}
	streams := []string{c.keys.stream, c.keys.wake}
	if create {
		streams = append(streams, c.keys.dead)
	}
	if err := setupScript.EvalSha(ctx, c.commands, streams).Err(); err != nil {
		return c.wrap("make the queue", err)
	}
	return nil
}
