package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/navvy-run/navvy"
)

// ValueChange is what became of a value.
type ValueChange struct {
	Value        // with Deleted, only its key and the number of the change
	Deleted bool // it was deleted
}

// ValueChanges is what a watch tells at once.
type ValueChanges struct {
	// Reset says that values may have been deleted of which nobody can tell any
	// more: what was told before is void, and all that there is follows.
	Reset   bool
	Changes []ValueChange
	// Through is the version to watch on from: all changes up to it were told, with
	// this and what came before. It is 0 in the middle of telling what there is.
	Through uint64
}

// told is one change of a value, as it is kept for those who watch.
type told struct {
	key     string
	version uint64
	deleted bool
}

// keptChanges bounds how many changes of an owner are kept for those who watch. Who
// is further behind reads the values themselves.
const keptChanges = 1024

// feeds are the newest changes of the owners that somebody watches. A watch keeps
// nothing but how far it has come: it cannot be too slow.
type feeds struct {
	mu   sync.Mutex
	open map[string]*feed
}

// feed is the newest changes of one owner, without a gap, as feeds.mu guards it.
type feed struct {
	watching int
	changes  []told
	changed  chan struct{} // closed with the next change
}

func (f *feeds) join(owner string) *feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[string]*feed{}
	}
	one := f.open[owner]
	if one == nil {
		one = &feed{changed: make(chan struct{})}
		f.open[owner] = one
	}
	one.watching++
	return one
}

func (f *feeds) leave(owner string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.open[owner]
	if one.watching--; one.watching == 0 {
		delete(f.open, owner)
	}
}

// publish tells of a change that is durable. Whoever leads the committer calls it,
// in the order of the changes.
func (f *feeds) publish(owner string, c told) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.open[owner]
	if one == nil {
		return
	}
	if n := len(one.changes); n > 0 && one.changes[n-1].version+1 != c.version {
		one.changes = one.changes[:0] // never seen; who watches reads the values themselves
	}
	if len(one.changes) >= 2*keptChanges {
		one.changes = append(one.changes[:0], one.changes[keptChanges:]...)
	}
	one.changes = append(one.changes, c)
	close(one.changed)
	one.changed = make(chan struct{})
}

// since gives the changes after a version, each key's newest, oldest first, and the
// last one's version, or what is closed when there are some. gap says that not all are
// known.
func (f *feeds) since(one *feed, version uint64) (list []told, last uint64, gap bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(one.changes)
	if n == 0 || one.changes[n-1].version <= version {
		return nil, version, false, one.changed
	}
	if one.changes[0].version > version+1 {
		return nil, version, true, one.changed
	}
	fresh := one.changes[version+1-one.changes[0].version:]
	newest := make(map[string]uint64, len(fresh))
	for _, c := range fresh {
		newest[c.key] = c.version
	}
	for _, c := range fresh {
		if newest[c.key] == c.version {
			list = append(list, c)
		}
	}
	return list, fresh[len(fresh)-1].version, false, one.changed
}

// tellOf is a change that is told of when the commit is durable.
type tellOf struct {
	owner string
	told
}

func (t *tx) tell(owner string, c told) { t.changes = append(t.changes, tellOf{owner, c}) }

// ValueWatch follows the values of an owner whose keys begin with a prefix. It is
// for one goroutine at a time.
type ValueWatch struct {
	values  Values
	prefix  string
	feed    *feed
	through uint64 // all changes up to it have been told
	list    *valueScan
	begun   bool
	queue   []told // changes that are not told yet, up to head
	head    uint64
}

// valueScan reads what there is, a page at a time.
type valueScan struct {
	from  uint64 // only what is newer
	after string
	head  uint64 // what is older has been told when it is over
	reset bool   // not told yet
}

// Watch follows the values whose keys begin with prefix from a version on: from 0
// on, it first tells all that there are. A value that changes often comes with its
// newest state, not with each; a change may come twice. The caller closes the watch.
func (v Values) Watch(prefix string, from uint64) (*ValueWatch, error) {
	if err := errors.Join(validateOwner(v.owner), validateValuePrefix(prefix)); err != nil {
		return nil, err
	}
	return &ValueWatch{values: v, prefix: prefix, feed: v.e.committer.feeds.join(v.owner), through: from}, nil
}

// Close ends the watch.
func (w *ValueWatch) Close() { w.values.e.committer.feeds.leave(w.values.owner) }

// Next waits until there is something to tell. The first call returns at once,
// perhaps with nothing.
func (w *ValueWatch) Next(ctx context.Context) (ValueChanges, error) {
	if !w.begun {
		w.begun = true
		if err := w.catchUp(ctx); err != nil {
			return ValueChanges{}, err
		}
		if w.list == nil {
			return ValueChanges{Through: w.through}, nil
		}
	}
	for {
		var c ValueChanges
		var ok bool
		var err error
		switch {
		case w.list != nil:
			c, ok, err = w.page(ctx)
		case len(w.queue) > 0:
			c, err = w.tellQueue(ctx)
			ok = len(c.Changes) > 0
		default:
			err = w.await(ctx)
		}
		if ok || err != nil {
			return c, err
		}
	}
}

// await waits until there are changes, and sees how to tell them.
func (w *ValueWatch) await(ctx context.Context) error {
	list, last, gap, changed := w.values.e.committer.feeds.since(w.feed, w.through)
	switch {
	case gap:
		return w.catchUp(ctx)
	case last > w.through:
		w.take(list, last)
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
		return nil
	}
}

// take queues those changes that this watch is for.
func (w *ValueWatch) take(list []told, last uint64) {
	w.queue, w.head = w.queue[:0], last
	for _, c := range list {
		if strings.HasPrefix(c.key, w.prefix) {
			w.queue = append(w.queue, c)
		}
	}
	if len(w.queue) == 0 {
		w.through = last
	}
}

// catchUp begins to read the values themselves, if there are changes that the feed
// does not know. What has been deleted they do not tell.
func (w *ValueWatch) catchUp(ctx context.Context) error {
	shelf, err := w.values.Shelf(ctx) // after joining the feed: what comes later is in there
	if err != nil || shelf.Version == w.through {
		return err
	}
	if _, _, gap, _ := w.values.e.committer.feeds.since(w.feed, w.through); !gap && w.known(w.through+1) {
		return nil
	}
	w.list = &valueScan{from: w.through, head: shelf.Version}
	if w.through != 0 && (w.through < shelf.Deleted || w.through > shelf.Version) {
		w.list.from, w.list.reset = 0, true
	}
	return nil
}

// known tells whether the feed has a change.
func (w *ValueWatch) known(version uint64) bool {
	f := &w.values.e.committer.feeds
	f.mu.Lock()
	defer f.mu.Unlock()
	c := w.feed.changes
	return len(c) > 0 && c[0].version <= version && version <= c[len(c)-1].version
}

// page tells the next page of what there is; false if there is nothing to tell of it.
func (w *ValueWatch) page(ctx context.Context) (ValueChanges, bool, error) {
	s := w.list
	list, next, err := w.values.List(ctx, w.prefix, s.after, 1000)
	if err != nil {
		return ValueChanges{}, false, err
	}
	c := ValueChanges{Reset: s.reset}
	for _, v := range list {
		if v.Version > s.from {
			c.Changes = append(c.Changes, ValueChange{Value: v})
		}
	}
	s.reset = false
	if s.after = next; next == "" {
		w.list, w.through = nil, s.head
		c.Through = s.head
	}
	return c, c.Reset || len(c.Changes) > 0 || next == "", nil
}

// tellQueue reads the values that have changed, as many as fit. A value that was
// deleted meanwhile it leaves out: the feed tells it.
func (w *ValueWatch) tellQueue(ctx context.Context) (ValueChanges, error) {
	var c ValueChanges
	size := 0
	for len(w.queue) > 0 && size <= maxValuePage {
		next := w.queue[0]
		if next.deleted {
			c.Changes = append(c.Changes, ValueChange{Value: Value{Key: next.key, Version: next.version}, Deleted: true})
		} else if v, err := w.values.Get(ctx, next.key); err == nil {
			c.Changes, size = append(c.Changes, ValueChange{Value: v}), size+len(v.Bytes)
		} else if !errors.Is(err, navvy.ErrNotFound) {
			return ValueChanges{}, fmt.Errorf("watch: %w", err)
		}
		w.queue = w.queue[1:]
		w.through = next.version // those before it were told, or newer ones of their keys are coming
	}
	if len(w.queue) == 0 {
		w.through = w.head
	}
	c.Through = w.through
	return c, nil
}
