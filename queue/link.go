package queue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/queue/driver"
)

// Pauses between tries, drawn so that many who lost one broker do not come back at once.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 10 * time.Second
)

func newTries() pause.Series { return pause.Series{First: firstPause, Longest: longestPause} }

// conn is one connection to the broker.
type conn struct {
	driver.Queue
	gone chan struct{} // closed when it is given up
	made time.Time
	over chan struct{} // closed when it has ended, well or not
	bad  error         // why it has not ended well, once over is closed

	mu   sync.Mutex
	held map[*Lease]bool // those that are lost with it (Capabilities.Held)
}

func newConn(q driver.Queue) *conn {
	return &conn{Queue: q, gone: make(chan struct{}), over: make(chan struct{}), made: time.Now()}
}

// broke tells whether the connection has ended otherwise than by being closed well.
func (c *conn) broke() bool {
	select {
	case <-c.over:
		return c.bad != nil
	default:
		return false
	}
}

// giveUp ends the leases that are lost with the connection.
func (c *conn) giveUp(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.gone)
	c.loseAll(name)
}

// link keeps a connection to the broker: one that is lost is made again, for ever.
type link struct {
	name string
	dial driver.Dial
	log  *slog.Logger
	ctx  context.Context //nolint:containedctx // of the queue

	mu      sync.Mutex
	conn    *conn         // nil while there is none
	changed chan struct{} // closed when conn or err is set
	dialing bool
	err     error        // why the last dial was given up
	why     error        // there is no connection
	tries   pause.Series // of dialing, and of connections that do not last
	work    sync.WaitGroup
}

func newLink(ctx context.Context, name string, dial driver.Dial, first driver.Queue, log *slog.Logger) *link {
	return &link{name: name, dial: dial, log: log, ctx: ctx, tries: newTries(), conn: newConn(first)}
}

// get gives the connection, or waits until there is one.
func (l *link) get(ctx context.Context) (*conn, error) {
	for {
		c, changed := l.current()
		if c != nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-l.ctx.Done():
			return nil, context.Cause(l.ctx)
		case <-changed:
		}
		if err := l.failed(); err != nil {
			return nil, err
		}
	}
}

// current is the connection, if there is one; else somebody makes it.
func (l *link) current() (*conn, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil && !l.dialing && l.ctx.Err() == nil {
		l.dialing, l.err, l.changed = true, nil, make(chan struct{})
		l.work.Go(l.redial)
	}
	return l.conn, l.changed
}

// failed is why there is no connection, if trying again does not help.
func (l *link) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return nil
	}
	return l.err
}

// redial makes a new connection, as long as that may help.
func (l *link) redial() {
	var c driver.Queue
	err := navvy.ErrUnavailable
	for n := 1; retry(err) && l.tries.Wait(l.ctx) == nil; n++ {
		if c, err = l.dial(l.ctx); err != nil && l.ctx.Err() == nil {
			l.log.Warn("cannot reach the broker", "queue", l.name, "try", n, "error", err)
			l.note(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing = false
	if l.err = err; err == nil {
		l.log.Info("the broker is back", "queue", l.name)
		l.conn = newConn(c)
	}
	close(l.changed)
}

// note keeps why there is no connection.
func (l *link) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = err
}

// down is why there is no connection; nil while there is one.
func (l *link) down() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return nil
	}
	return l.why
}

// retry tells whether what failed may go well later.
func retry(err error) bool {
	return errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrExhausted)
}

// after decides what to do after an error: a lost connection is given up, and a broker
// that wants to be left alone is. It gives back what trying again does not mend.
func (l *link) after(ctx context.Context, c *conn, tries *pause.Series, err error) error {
	switch {
	case err == nil:
		tries.Reset()
		return nil
	case errors.Is(err, navvy.ErrUnavailable):
		l.lose(c, err)
		return nil
	case errors.Is(err, navvy.ErrExhausted):
		return tries.Wait(ctx)
	default:
		return err
	}
}

// lose gives up a connection.
func (l *link) lose(c *conn, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c == nil || l.conn != c {
		return
	}
	if time.Since(c.made) > longestPause {
		l.tries.Reset()
	}
	l.log.Warn("the connection to the broker is lost", "queue", l.name, "error", why)
	l.conn, l.why = nil, why
	c.giveUp(l.name)
	c.bad = why
	close(c.over)
	l.work.Go(func() { _ = c.Close() }) // it is lost: what could still go wrong has
}

// close ends the connection.
func (l *link) close() error {
	l.work.Wait()
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	var err error
	if c != nil {
		c.giveUp(l.name)
		err = c.Close()
		c.bad = err
		close(c.over)
	}
	l.work.Wait()
	if errors.Is(err, navvy.ErrUnavailable) {
		return nil // it is closed, and who settled over it was told what the broker confirmed
	}
	return err
}

// insist does something with items until each of them has gone well, or never will.
func insist[T any](ctx context.Context, l *link, items []T, do func(*conn, []T) []error) []error {
	var errs []error
	left, at := items, indices(len(items))
	tries := newTries()
	for {
		c, err := l.get(ctx)
		var now []error
		if err != nil {
			now = driver.Each(len(left), err)
		} else {
			now = do(c, left)
		}
		var again error
		left, at, again = sort(left, at, now, func(i int, err error) {
			if errs == nil {
				errs = make([]error, len(items))
			}
			errs[i] = err
		})
		if len(left) == 0 {
			return errs
		}
		if err := l.after(ctx, c, &tries, again); err != nil {
			return spread(errs, len(items), at, err)
		}
	}
}

func indices(n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	return at
}

// sort tells failed of the items that have failed for good, and gives those that are to be
// tried again, and why.
func sort[T any](items []T, at []int, errs []error, failed func(int, error)) (left []T, leftAt []int, why error) {
	if errs == nil {
		return nil, nil, nil
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case retry(err):
			left, leftAt = append(left, items[i]), append(leftAt, at[i])
			if why == nil || errors.Is(err, navvy.ErrUnavailable) {
				why = err
			}
		default:
			failed(at[i], err)
		}
	}
	return left, leftAt, why
}

// spread gives all that is left one error.
func spread(errs []error, n int, at []int, err error) []error {
	if errs == nil {
		errs = make([]error, n)
	}
	for _, i := range at {
		errs[i] = err
	}
	return errs
}
