package engine

import (
	"context"
	"log/slog"
	"sync"
)

// watcher tells who waits for a container of its changes: one stream of events for all. After
// a break it begins another, and everybody looks again.
type watcher struct {
	backend  backend
	instance string
	log      *slog.Logger

	once    sync.Once
	ctx     context.Context // until close
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by id
}

func newWatcher(b backend, instance string, log *slog.Logger) *watcher {
	w := &watcher{backend: b, instance: instance, log: log, waiting: map[string]map[chan struct{}]bool{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// begin begins to watch, at its first call.
func (w *watcher) begin() {
	w.once.Do(func() { w.running.Go(w.run) })
}

// run watches until close. Who waits looks when the stream is there, and from then on when it
// is told.
func (w *watcher) run() {
	again := pauses()
	for w.ctx.Err() == nil {
		err := w.backend.watch(w.ctx, w.instance, func() { again.Reset(); w.all() }, w.changed)
		if w.ctx.Err() != nil {
			return
		}
		w.log.Warn("the engine's events broke off; they are asked for again", "err", err)
		_ = again.Wait(w.ctx)
	}
}

func (w *watcher) close() {
	w.stop()
	w.running.Wait()
}

// all tells everybody.
func (w *watcher) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.waiting {
		tell(list)
	}
}

// changed tells those who wait for a container.
func (w *watcher) changed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tell(w.waiting[id])
}

func tell(list map[chan struct{}]bool) {
	for c := range list {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// follow gives a channel that has something whenever a container may have changed.
func (w *watcher) follow(id string) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[id] == nil {
		w.waiting[id] = map[chan struct{}]bool{}
	}
	w.waiting[id][c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.waiting[id], c); len(w.waiting[id]) == 0 {
			delete(w.waiting, id)
		}
	}
}
