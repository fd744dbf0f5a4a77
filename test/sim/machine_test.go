package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/engine/pebble"
)

// machine is what navvy runs on: a disk, and power that may fail. It is for one
// goroutine, but for the store that it opens.
type machine interface {
	// boot opens the store on what the disk holds.
	boot() (driver.Store, error)
	// arm lets something go wrong at the n-th write from now on.
	arm(n int, kind trouble)
	// hit tells whether it has gone wrong, so that calls may fail.
	hit() bool
	// dead tells whether the process, or the machine, has come to its end.
	dead() bool
	// end ends the process, and with power the machine, at once.
	end(power bool)
	// fill leaves room for so many bytes on the disk; free makes room again.
	fill(left int64)
	free()
	// full tells whether the store says so.
	full() bool
	// logs names the jobs that have logs; ok is false if nobody can tell.
	logs() (jobs []string, ok bool)
	// fileLogs counts the logs of files; ok is false if nobody can tell.
	fileLogs() (n int, ok bool)
}

// trouble is what can go wrong at a write.
type trouble int

const (
	powerLoss trouble = iota
	writeError
	lastingError
	troubles // how many there are
)

// pebbleMachine runs engine/pebble on a disk.
type pebbleMachine struct {
	disk   *disk
	mount  *mount
	rng    *rand.Rand
	isFull atomic.Bool
}

func newPebbleMachine(rng *rand.Rand) *pebbleMachine {
	return &pebbleMachine{disk: newDisk(), rng: rng}
}

// Small enough that tables are written and compacted, and that a disk fills up.
const (
	memtable = 64 << 10
	ballast  = 512 << 10
)

func (p *pebbleMachine) boot() (driver.Store, error) {
	p.mount = p.disk.mount()
	p.isFull.Store(false)
	s, err := pebble.Open("/store", &pebble.Options{
		FS: p.mount, Memtable: memtable, Cache: 64 << 10, Ballast: ballast, OnFull: p.isFull.Store,
	})
	if err != nil {
		return nil, err // not a nil *pebble.Store
	}
	return s, nil
}

// percents are the chances that what was not synced survives a loss of power.
var percents = []int{0, 0, 10, 50, 90, 100}

func (p *pebbleMachine) arm(n int, kind trouble) {
	plan := fault{power: kind == powerLoss, lasting: kind == lastingError}
	if plan.power {
		plan.percent, plan.rng = percents[p.rng.IntN(len(percents))], p.rng
	}
	p.mount.arm(n, plan)
}

func (p *pebbleMachine) hit() bool  { return p.mount.hit() }
func (p *pebbleMachine) dead() bool { return p.mount.isDead() }

func (p *pebbleMachine) end(power bool) {
	if power {
		p.mount.cut(percents[p.rng.IntN(len(percents))], p.rng)
	} else {
		p.mount.kill()
	}
}

func (p *pebbleMachine) fill(left int64) { p.disk.fill(left) }
func (p *pebbleMachine) free()           { p.disk.free() }
func (p *pebbleMachine) full() bool      { return p.isFull.Load() }

func (p *pebbleMachine) logs() ([]string, bool) {
	return slices.DeleteFunc(p.disk.list("/store/logs"), func(name string) bool { return name == "files" }), true
}

func (p *pebbleMachine) fileLogs() (int, bool) {
	n := 0
	for _, epoch := range p.disk.list("/store/logs/files") {
		for _, part := range p.disk.list("/store/logs/files/" + epoch) {
			n += len(p.disk.list("/store/logs/files/" + epoch + "/" + part))
		}
	}
	return n, true
}

var _ vfs.FS = (*mount)(nil)

// memoryMachine runs engine/memory, whose store forgets at a loss of power what
// a store on disk may forget.
type memoryMachine struct {
	left *memory.Store
	cut  *cutStore
	rng  *rand.Rand
}

func newMemoryMachine(rng *rand.Rand) *memoryMachine {
	return &memoryMachine{left: memory.New(), rng: rng}
}

func (m *memoryMachine) boot() (driver.Store, error) {
	if m.cut != nil {
		m.left = m.cut.Store.(*memory.Store).Crash()
	}
	m.cut = &cutStore{Store: m.left}
	return m.cut, nil
}

func (m *memoryMachine) arm(n int, _ trouble) {
	m.cut.mu.Lock()
	defer m.cut.mu.Unlock()
	m.cut.at, m.cut.after = m.cut.writes+n, m.rng.IntN(2) == 0
}

func (m *memoryMachine) hit() bool {
	m.cut.mu.Lock()
	defer m.cut.mu.Unlock()
	return m.cut.dead
}

func (m *memoryMachine) dead() bool { return m.hit() }

func (m *memoryMachine) end(bool) {
	m.cut.mu.Lock()
	defer m.cut.mu.Unlock()
	m.cut.dead = true
}

func (m *memoryMachine) fill(int64)             {}
func (m *memoryMachine) free()                  {}
func (m *memoryMachine) full() bool             { return false }
func (m *memoryMachine) logs() ([]string, bool) { return nil, false }
func (m *memoryMachine) fileLogs() (int, bool)  { return 0, false }

// cutStore is a store that dies at a certain write: before it, or after it and
// before anybody hears of it.
type cutStore struct {
	driver.Store
	mu     sync.Mutex
	writes int
	at     int // 0 for never
	after  bool
	dead   bool
}

var errDead = fmt.Errorf("the store has died: %w", navvy.ErrUnavailable)

func (c *cutStore) write(f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errDead
	}
	c.writes++
	if c.at == 0 || c.writes < c.at {
		return f()
	}
	c.dead = true
	if c.after {
		return errors.Join(errDead, f())
	}
	return errDead
}

func (c *cutStore) alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errDead
	}
	return nil
}

func (c *cutStore) Apply(ctx context.Context, b *driver.Batch) error {
	return c.write(func() error { return c.Store.Apply(ctx, b) })
}

func (c *cutStore) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	return c.Store.Get(ctx, key)
}

func (c *cutStore) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	if err := c.alive(); err != nil {
		return err
	}
	return c.Store.Scan(ctx, r, fn)
}

func (c *cutStore) CreateLog(ctx context.Context, name string) (w driver.LogWriter, err error) {
	err = c.write(func() error {
		w, err = c.Store.CreateLog(ctx, name)
		return err
	})
	return &cutWriter{w, c}, err
}

func (c *cutStore) OpenLog(ctx context.Context, name string) (driver.LogReader, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	return c.Store.OpenLog(ctx, name)
}

func (c *cutStore) DropLogs(ctx context.Context, prefix string) error {
	return c.write(func() error { return c.Store.DropLogs(ctx, prefix) })
}

// Close leaves the store to the next boot.
func (c *cutStore) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	return nil
}

type cutWriter struct {
	driver.LogWriter
	c *cutStore
}

func (w *cutWriter) Append(p []byte) error {
	return w.c.write(func() error { return w.LogWriter.Append(p) })
}

func (w *cutWriter) Sync() error { return w.c.write(w.LogWriter.Sync) }
