package manager

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/output"
)

// live is the output of an attempt while it comes in: its head in memory, and
// all of it in the engine's log once it is longer than that.
type live struct {
	log *output.Log
	// turn counts the writers: only the last one may append.
	mu   sync.Mutex
	turn int
	// file is nil as long as the output is short. The log sets it.
	file atomic.Pointer[engine.OutputLog]
}

func newLive(eng *engine.Engine, ref Ref) *live {
	l := &live{}
	l.log = output.NewLog(func() (output.File, error) {
		// The log is the attempt's, not the call's that happens to fill it.
		file, err := eng.CreateOutput(context.Background(), ref.Task, ref.Attempt)
		if err != nil {
			return nil, err
		}
		l.file.Store(file)
		return file, nil
	})
	return l
}

// log is where the attempt's output lies, nil if it is not in a log.
func (a *attempt) log() *engine.OutputLog {
	if a == nil || a.out == nil {
		return nil
	}
	return a.out.file.Load()
}

// OutputWriter takes what one attempt writes. It is for one goroutine at a time.
type OutputWriter struct {
	m       *Manager
	attempt *attempt
	out     *live
	turn    int
}

// WriteOutput opens the output of an attempt that the worker of that name runs, or
// any if it is empty; ErrLeaseLost if the manager knows of no such attempt. An
// earlier writer of the same attempt can append no more.
func (m *Manager) WriteOutput(worker string, ref Ref) (*OutputWriter, error) {
	m.mu.Lock()
	a := m.leasedLocked(worker, ref)
	if a == nil {
		m.mu.Unlock()
		return nil, lostOutput(ref.Task, ref.Attempt)
	}
	w := &OutputWriter{m: m, attempt: a, out: m.liveLocked(a)}
	m.mu.Unlock()
	w.out.mu.Lock() // an append that is under way comes first
	defer w.out.mu.Unlock()
	w.out.turn++
	w.turn = w.out.turn
	return w, nil
}

func lostOutput(task navvy.TaskID, id navvy.AttemptID) error {
	return fmt.Errorf("output of %s, attempt %s: %w", task, id, navvy.ErrLeaseLost)
}

// Taken is how many bytes of the output have come in.
func (w *OutputWriter) Taken() int64 {
	length, _ := w.out.log.Sum()
	return length
}

// spaceCheck is how often a nearly full disk is looked at for the sake of output.
const spaceCheck = 250 * time.Millisecond

func (w *OutputWriter) awaitSpace(ctx context.Context) error {
	m := w.m
	waits := false
	defer func() {
		if waits {
			m.outputWaits.Add(-1)
		}
	}()
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if !m.opts.Full() && m.eng.OutputFits() {
			return nil
		}
		if !waits {
			waits = true
			m.outputWaits.Add(1)
		}
		m.mu.Lock()
		stopped := w.attempt.stopped
		m.mu.Unlock()
		if stopped {
			return fmt.Errorf("output of %s: the disk is full: %w", w.attempt.task(), navvy.ErrExhausted)
		}
		select {
		case <-ctx.Done():
		case <-time.After(spaceCheck):
		}
	}
}

// OutputWaits tells whether tasks wait because the disk has no space for their output.
func (m *Manager) OutputWaits() bool { return m.outputWaits.Load() > 0 }

func (m *Manager) runningLocked(task navvy.TaskID) *attempt {
	if j := m.jobs[task.Job]; j != nil {
		return j.running[task.Index]
	}
	return nil
}

func (m *Manager) liveLocked(a *attempt) *live {
	if a.out == nil {
		a.out = newLive(m.eng, a.ref())
	}
	return a.out
}

// Append adds frames, which it does not keep, and tells how long the output is
// now. On a disk that is nearly full it waits for space, until ctx ends or the
// attempt is told to stop, which is ErrExhausted.
func (w *OutputWriter) Append(ctx context.Context, frames []byte) (int64, error) {
	if err := w.awaitSpace(ctx); err != nil {
		return 0, err
	}
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	if w.turn != w.out.turn {
		return 0, lostOutput(w.attempt.task(), w.attempt.id)
	}
	if err := w.out.log.Append(frames); err != nil {
		return 0, err
	}
	return w.Taken(), nil
}

// Live gives the output of the attempt that runs now, and makes its worker
// stream it; ok is false if none runs.
func (m *Manager) Live(task navvy.TaskID) (id navvy.AttemptID, out *output.Log, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.runningLocked(task)
	if a == nil {
		if j := m.jobs[task.Job]; j == nil || j.settling[task.Index] == nil || j.settling[task.Index].out == nil {
			return navvy.AttemptID{}, nil, false
		}
		a = m.jobs[task.Job].settling[task.Index]
		return a.id, a.out.log, true
	}
	if !a.watch {
		a.watch = true
		a.watchLocked()
	}
	return a.id, m.liveLocked(a).log, true
}

// Watched notes that somebody waits for the output of a task before it runs,
// so that it is streamed from the start. leave takes that back.
func (m *Manager) Watched(task navvy.TaskID) (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched[task]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.watched[task]--; m.watched[task] == 0 {
			delete(m.watched, task)
		}
	}
}

func (m *Manager) watchedLocked(task navvy.TaskID) bool { return m.watched[task] > 0 }

// complete fits what the worker says of the output to what came in: what is
// short goes into the record, however it came.
func (a *attempt) complete(out *navvy.Output) error {
	if !out.Logged {
		if min(out.Length, out.Stdout, out.Stderr) < 0 || len(out.Inline) > output.InlineLimit || output.UpdateCRC(0, out.Inline) != out.CRC {
			return fmt.Errorf("output of %s, attempt %s: %d bytes came with the report, and are not what it says: %w", a.task(), a.id, len(out.Inline), navvy.ErrCorrupt)
		}
		return nil
	}
	var length int64
	var crc uint32
	if a.out != nil {
		length, crc = a.out.log.Sum()
	}
	if length != out.Length || crc != out.CRC {
		return fmt.Errorf("output of %s, attempt %s is not what its worker sent: %w", a.task(), a.id, navvy.ErrCorrupt)
	}
	if length > 0 && a.out.file.Load() != nil {
		return nil
	}
	out.Logged = false
	if length == 0 {
		return nil
	}
	out.Inline = make([]byte, length)
	_, err := a.out.log.Read(context.Background(), out.Inline, 0) // all in memory
	return err
}

// close ends the live output: its readers go on in what is durable.
func (a *attempt) close() error {
	if a.out == nil {
		return nil
	}
	return a.out.log.Close()
}
