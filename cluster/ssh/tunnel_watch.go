package ssh

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// changes are those of the directory of the tunnels: its table, and who asks for one.
type changes struct {
	watcher *fsnotify.Watcher // nil if they cannot be watched
	look    time.Duration     // then it is looked so often
}

// watch begins to watch, before anything is read.
func (t *tunneler) watch() *changes {
	c := &changes{look: t.o.Look}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(t.dir); err == nil {
			c.watcher = w
			return c
		}
		_ = w.Close() // it watches nothing
	}
	t.o.Logger.Warn("changes cannot be watched", "look_every", t.o.Look, "error", err)
	return c
}

// next waits for a change; false if ctx has ended.
func (c *changes) next(ctx context.Context) bool {
	if c.watcher == nil {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(c.look):
			return true
		}
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case e := <-c.watcher.Events:
			name := filepath.Base(e.Name) // the rest is of the tunnels themselves
			if name == tableName || strings.HasSuffix(name, askSuffix) && e.Has(fsnotify.Create) {
				return true
			}
		case _, open := <-c.watcher.Errors: // some may have been missed
			return open
		}
	}
}

// close ends to watch.
func (c *changes) close() {
	if c.watcher == nil {
		return
	}
	_ = c.watcher.Close() // nothing is to be heard of it any more
	for range c.watcher.Events {
	}
}
