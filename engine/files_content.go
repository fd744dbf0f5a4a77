package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// contents counts those that are begun, and knows those that are being read: their logs
// stay until nobody reads them any more.
type contents struct {
	count atomic.Uint64
	mu    sync.Mutex
	read  map[ContentID]*reading
}

// reading is a content that somebody reads.
type reading struct {
	readers int
	loose   bool // no file names it: the last reader drops it
}

// newContent is an id that was never used.
func (e *Engine) newContent() ContentID {
	return ContentID{Epoch: e.epoch, Number: e.contents.count.Add(1)}
}

func (c *contents) hold(id ContentID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		c.read = map[ContentID]*reading{}
	}
	if c.read[id] == nil {
		c.read[id] = &reading{}
	}
	c.read[id].readers++
}

// release ends a hold, and tells whether the content is to be dropped now.
func (c *contents) release(id ContentID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.read[id]
	if r.readers--; r.readers > 0 {
		return false
	}
	delete(c.read, id)
	return r.loose
}

// loosen tells whether a content that no file names can be dropped now. Else whoever
// reads it last does it.
func (c *contents) loosen(id ContentID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.read[id]
	if r != nil {
		r.loose = true
	}
	return r == nil
}

// dropContent drops the log of a file that is gone, nil for none, when nobody reads it.
func (e *Engine) dropContent(ctx context.Context, f *File) {
	if f != nil && f.Logged && e.contents.loosen(f.Content) {
		e.dropLog(ctx, f.Content)
	}
}

// dropLog drops a content that is loose. It is decided, so that ctx does not end it; what
// fails the next start does.
func (e *Engine) dropLog(ctx context.Context, id ContentID) {
	ctx = context.WithoutCancel(ctx)
	err := e.store.DropLogs(ctx, contentLog(id))
	if err == nil {
		err = e.committer.do(ctx, func(t *tx) error {
			t.delete(contentKey(tableLoose, id))
			return nil
		})
	}
	if err != nil && !errors.Is(err, navvy.ErrClosed) {
		e.opts.Logger.Warn("what a file held is dropped by the next start", "content", id, "error", err)
	}
}

// dropLoose drops what writers and removals have left that a crash has ended.
func (e *Engine) dropLoose(ctx context.Context) error {
	var loose []ContentID
	err := e.store.Scan(ctx, driver.Prefix([]byte{tableLoose}), func(key, _ []byte) error {
		id, err := splitContentKey(key)
		if err != nil {
			e.opts.Logger.Error("a content that no file names is passed over: its key is damaged", "error", err)
			return nil
		}
		loose = append(loose, id)
		return nil
	})
	if err != nil || len(loose) == 0 {
		return err
	}
	for _, id := range loose {
		if err := e.store.DropLogs(ctx, contentLog(id)); err != nil {
			return fmt.Errorf("drop content %s, which no file names: %w", id, err)
		}
	}
	return e.committer.do(ctx, func(t *tx) error {
		for _, id := range loose {
			t.delete(contentKey(tableLoose, id))
		}
		return nil
	})
}
