package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/cluster/config"
	"github.com/navvy-run/navvy/cluster/driver"
)

// dir is where a cluster of the world is.
func (w *world) dir(cluster string, names ...string) string {
	return filepath.Join(append([]string{w.state, "navvy-clusters", cluster}, names...)...)
}

// compiled is what a cluster consists of.
func (w *world) compiled(c *config.Cluster) []driver.Resource {
	w.t.Helper()
	list, err := w.Compile(w.ctx(), c, salt)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// onNATS is a small cluster whose workers have their requests from a broker.
func onNATS(name, base, request, response string) *config.Cluster {
	c := echoes(name, 0)
	c.Queue = config.Queue{Kind: config.QueueNATS, Request: request, Response: response, URL: &config.Value{Text: base}}
	return c
}

// Who was killed right behind the mark, or while the last files went, is gone on from: nothing
// but the mark is there, and what was begun of others.
func TestKilledBehindMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := onNATS("begun", "nats://127.0.0.1:1", "in", "out")
	c.Dir = t.TempDir()
	write(t, filepath.Join(c.Dir, "words"), "hello", 0o600)
	c.Share = []config.Share{{From: "words", At: "words"}}
	list := w.compiled(c)
	w.put(c.Name, list[:1])
	if err := os.RemoveAll(w.dir(c.Name, "made")); err != nil {
		t.Fatal(err)
	}
	write(t, w.dir(c.Name, "files", ".new-123", "tree", "words"), "hel", 0o600)
	w.put(c.Name, list[1:2])
	if entries, err := os.ReadDir(w.dir(c.Name, "files")); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if o := w.observed(c.Name, "files", "service"); o == nil || o.Health != driver.HealthOK {
		t.Errorf("%+v", o)
	}
}

// A path may have in it what would be a pattern, or lead over links: what is there is what was
// asked for, whichever way it is named.
func TestPaths(t *testing.T) {
	t.Parallel()
	real, dir := t.TempDir(), t.TempDir()
	odd := filepath.Join(real, "[a]*")
	state, elsewhere := filepath.Join(real, "state"), filepath.Join(real, "elsewhere")
	for link, to := range map[string]string{state: odd, elsewhere: dir} {
		if err := errors.Join(os.MkdirAll(to, 0o700), os.Symlink(to, link)); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, state: state, Driver: open(t, state)}
	c := echoes("odd", 0)
	c.Monitor.Kind = config.MonitorPrometheus
	own := onNATS("own", "nats://127.0.0.1:1", "in", "out")
	own.Local.Dir = dir
	for _, c := range []*config.Cluster{c, own} {
		list := w.compiled(c)
		w.put(c.Name, list[:1])
		if c == own {
			c.Local.Dir = elsewhere
			list = w.compiled(c)
		}
		if o := w.observed(c.Name, driver.KindCluster, c.Name); o.Properties["directory"] != w.compiled(c)[0].Properties["directory"] {
			t.Errorf("%s: it is in %q, and is to be in %q", c.Name, o.Properties["directory"], list[0].Properties["directory"])
		}
	}
	list := w.compiled(c)
	for i := range list {
		if list[i].Kind == "monitor" {
			w.put(c.Name, list[i:i+1])
		}
	}
	if o := w.observed(c.Name, "monitor", "prometheus"); o == nil {
		t.Error("what was made is not seen")
	}
	write(t, w.dir(c.Name, ".new-1"), "", 0o600)
	w.destroy(c.Name)
	w.destroy(own.Name)
	w.nothing()
}

// What Prometheus keeps where its configuration is stays, and a directory in which nothing but
// our own beginning is can be used.
func TestMonitorDir(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("watched", 0)
	c.Monitor.Kind = config.MonitorPrometheus
	list := w.compiled(c)
	w.put(c.Name, list[:1])
	data := w.dir(c.Name, "monitor", "data", "wal")
	write(t, w.dir(c.Name, "monitor", ".new-123"), "watch", 0o600)
	for i := range list {
		if list[i].Kind == "monitor" {
			w.put(c.Name, list[i:i+1])
		}
	}
	write(t, data, "measured", 0o600)
	w.destroy(c.Name)
	if text, err := os.ReadFile(data); string(text) != "measured" {
		t.Errorf("%q, %v", text, err)
	}
	if entries, err := os.ReadDir(w.dir(c.Name, "monitor")); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := os.RemoveAll(w.dir(c.Name)); err != nil {
		t.Fatal(err)
	}
}

// Many who begin and end at once, while there is no cluster, are in nobody's way.
func TestLocksComeAndGo(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir())
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			for range 500 {
				lock, err := d.Lock(t.Context(), name, driver.Holder{Who: name})
				if err == nil {
					err = lock.Release(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
