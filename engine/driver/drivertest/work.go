package drivertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

// work is what goroutines do to a store until it crashes, and what they know.
// What the batch i of a writer holds follows from the seed, so that the state
// after any number of them can be told.
type work struct {
	seed    uint64
	writers [6]writer
	done    atomic.Int64 // acknowledged batches of this generation
	wanted  atomic.Int64
	working atomic.Int64 // writers

	mu     sync.Mutex
	enough chan struct{} // closed when done has reached wanted, or nobody works
	claims map[int]int   // claim → the writer that won it; -1 if only known to be won
	tried  int           // the highest claim that anybody tried
}

// writer is one goroutine's knowledge. Its batches are numbered from 1.
type writer struct {
	issued  atomic.Uint64 // begun
	acked   atomic.Uint64 // acknowledged
	seen    atomic.Uint64 // read by others
	dropped atomic.Uint64 // its logs up to here are dropped
}

// known is what must be there after a crash that begins now.
type known struct {
	acked, seen, dropped []uint64
	claims               map[int]int
}

func newWork(seed uint64) *work {
	return &work{seed: seed, claims: map[int]int{}}
}

// start sets goroutines to work on the store until it ends. wait returns what
// was wrong before; stop ends those that do not notice the crash.
func (w *work) start(ctx context.Context, s driver.Store, generation uint64) (wait func() error, stop func()) {
	ctx, stop = context.WithCancel(ctx)
	w.done.Store(0)
	w.wanted.Store(1 << 40)
	w.enough = make(chan struct{})
	w.working.Store(int64(len(w.writers)))
	g := new(group)
	for i := range w.writers {
		g.run(func() error {
			defer func() {
				if w.working.Add(-1) == 0 {
					w.release()
				}
			}()
			return w.write(ctx, s, i)
		})
	}
	for i := range uint64(2) {
		g.run(func() error { return w.read(ctx, s, 100*generation+i) })
	}
	return g.wait, stop
}

// busy waits until so many batches are acknowledged.
func (w *work) busy(batches int) {
	w.wanted.Store(int64(batches))
	w.note(0)
	<-w.enough
}

func (w *work) note(n int64) {
	if w.done.Add(n) >= w.wanted.Load() {
		w.release()
	}
}

func (w *work) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.enough:
	default:
		close(w.enough)
	}
}

func (w *work) known() known {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := known{claims: maps.Clone(w.claims)}
	for i := range w.writers {
		k.acked = append(k.acked, w.writers[i].acked.Load())
		k.seen = append(k.seen, w.writers[i].seen.Load())
		k.dropped = append(k.dropped, w.writers[i].dropped.Load())
	}
	return k
}

// write is one writer. It ends, without an error, when the store does.
func (w *work) write(ctx context.Context, s driver.Store, id int) error {
	me := &w.writers[id]
	w.mu.Lock()
	claim := len(w.claims) // those are known to be won
	w.mu.Unlock()
	for ctx.Err() == nil {
		i := me.acked.Load() + 1
		me.issued.Store(i)
		err := w.writeLog(ctx, s, id, int(i))
		if err == nil {
			err = s.Apply(ctx, writerBatch(w.seed, id, int(i)))
		}
		if err == nil {
			me.acked.Store(i)
			w.note(1)
			err = w.dropLogs(ctx, s, id, i)
		}
		if err == nil {
			claim++
			err = w.claim(ctx, s, id, claim)
		}
		if err != nil {
			if ended(err) {
				return nil
			}
			return fmt.Errorf("writer %d, batch %d: %w", id, i, err)
		}
	}
	return nil
}

// claim tries to be the one that puts a key that all writers try to put.
func (w *work) claim(ctx context.Context, s driver.Store, id, claim int) error {
	w.mu.Lock()
	w.tried = max(w.tried, claim)
	w.mu.Unlock()
	b := new(driver.Batch)
	key := claimKey(claim)
	b.IfAbsent(key)
	b.Put(key, []byte(strconv.Itoa(id)))
	err := s.Apply(ctx, b)
	if err != nil && !errors.Is(err, navvy.ErrConflict) {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	winner, known := w.claims[claim]
	switch {
	case err == nil && known && winner >= 0:
		return fmt.Errorf("both %d and %d won claim %d", winner, id, claim)
	case err == nil:
		w.claims[claim] = id
	case !known:
		w.claims[claim] = -1
	}
	return nil
}

func claimKey(claim int) []byte { return fmt.Appendf(nil, "claim/%08d", claim) }

// read looks at how far the writers are, until the store ends. Every other look
// is a scan.
func (w *work) read(ctx context.Context, s driver.Store, part uint64) error {
	choose := random(w.seed, 5000+part)
	for i := 0; ctx.Err() == nil; i++ {
		if err := w.look(ctx, s, choose.IntN(len(w.writers)), i%2 == 0); err != nil {
			if ended(err) {
				return nil
			}
			return err
		}
	}
	return nil
}

func (w *work) look(ctx context.Context, s driver.Store, id int, scan bool) error {
	if !scan {
		n, err := progress(ctx, s, id)
		raise(&w.writers[id].seen, n)
		return err
	}
	seen := map[int]uint64{}
	err := s.Scan(ctx, driver.Prefix([]byte("progress/")), func(key, value []byte) error {
		id, err := strconv.Atoi(string(key[len("progress/"):]))
		if err != nil || len(value) != 8 {
			return fmt.Errorf("progress: %q = %q", key, value)
		}
		seen[id] = binary.BigEndian.Uint64(value)
		return nil
	})
	if err != nil {
		return err
	}
	for id, n := range seen {
		raise(&w.writers[id].seen, n)
	}
	return nil
}

// progress reads how many batches of a writer are there.
func progress(ctx context.Context, s driver.Store, id int) (uint64, error) {
	value, err := s.Get(ctx, progressKey(id))
	if errors.Is(err, navvy.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("writer %d: progress is %q", id, value)
	}
	return binary.BigEndian.Uint64(value), nil
}

func progressKey(id int) []byte { return fmt.Appendf(nil, "progress/%d", id) }

func writerPrefix(id int) string { return fmt.Sprintf("w/%d/", id) }

// writerBatch is the batch i of a writer. It holds something of everything, is
// now and then large, and holds only if it is the next one.
func writerBatch(seed uint64, id, i int) *driver.Batch {
	choose := random(seed, uint64(id)<<32|uint64(i))
	b := new(driver.Batch)
	if i > 1 {
		b.IfEqual(progressKey(id), number(uint64(i-1)))
	} else {
		b.IfAbsent(progressKey(id))
	}
	prefix := writerPrefix(id)
	key := func() []byte { return fmt.Appendf(nil, "%s%03d", prefix, choose.IntN(200)) }
	if i%17 == 0 {
		b.DeleteRange([]byte(prefix), driver.PrefixEnd([]byte(prefix)))
	}
	if i%5 == 0 {
		from, to := key(), key()
		b.DeleteRange(from, to)
	}
	size := 1 + choose.IntN(200)
	if i%29 == 0 {
		size = 100_000
	}
	for n := range 1 + choose.IntN(8) {
		b.Put(key(), pattern(i+n, size))
	}
	b.Delete(key())
	b.Put(fmt.Appendf(nil, "%slast", prefix), number(uint64(i)))
	b.Put(progressKey(id), number(uint64(i)))
	return b
}

var patterns = func() []byte {
	p := make([]byte, 200_000)
	choose := random(1, 1)
	for i := range p {
		p[i] = byte(choose.Uint32())
	}
	return p
}()

// pattern is contents of a size that differs from others, and at each place.
func pattern(i, size int) []byte { return patterns[i%90_000:][:size:size] }
