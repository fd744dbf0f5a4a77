package unit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Options are how a supervisor keeps units up. The zero value is the default.
type Options struct {
	// FirstPause and LongestPause are between two starts of a unit that ends: they double.
	// Default to 200 ms and 30 s.
	FirstPause, LongestPause time.Duration
	// Well is how long a unit has run that ran well, so that its pauses begin anew. Defaults
	// to a minute.
	Well time.Duration
	// Tries is how often in a row a unit is started again that does not run well, until it is
	// given up. Defaults to 20, which takes about eight minutes.
	Tries int
	// Patience is how long a supervisor without units waits for the first, and Linger one
	// that has lost its last for another. Default to 10 s and 200 ms.
	Patience, Linger time.Duration
	// Logger hears of starts and ends. Defaults to one that discards.
	Logger *slog.Logger
}

func (o *Options) withDefaults() *Options {
	var d Options
	if o != nil {
		d = *o
	}
	d.FirstPause, d.LongestPause = cmp.Or(d.FirstPause, 200*time.Millisecond), cmp.Or(d.LongestPause, 30*time.Second)
	d.Well, d.Tries = cmp.Or(d.Well, time.Minute), cmp.Or(d.Tries, 20)
	d.Patience, d.Linger = cmp.Or(d.Patience, 10*time.Second), cmp.Or(d.Linger, 200*time.Millisecond)
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &d
}

// ErrHeld says that another supervisor has the directory.
var ErrHeld = fmt.Errorf("units: another supervisor has them: %w", navvy.ErrConflict)

// errGone says that a unit went while it was asked for.
var errGone = fmt.Errorf("units: the supervisor is about to end: %w", navvy.ErrUnavailable)

// supervisor keeps the units of a directory up.
type supervisor struct {
	dir     string
	o       *Options
	log     *slog.Logger
	leaving chan struct{}
	keeping sync.WaitGroup // keepers
	calls   sync.WaitGroup
	moved   chan struct{} // something has come or gone

	mu      sync.Mutex
	keepers map[string]*keeper
	damaged map[string]error // units whose records cannot be read
	busy    int              // calls that are answered now
	closed  bool
}

// Supervise keeps the units of a directory up until there are none, or ctx ends: then they go
// on without it, and the next one finds them. serving is called once it can be asked; its
// error ends it. It is ErrHeld if there is one already. Whoever may enter the directory
// may ask it.
func Supervise(ctx context.Context, dir string, o *Options, serving func() error) error {
	if err := openDir(dir); err != nil {
		return err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	if lock == nil {
		return ErrHeld
	}
	o = o.withDefaults()
	s := &supervisor{dir: dir, o: o, log: o.Logger, leaving: make(chan struct{}), moved: make(chan struct{}, 1), keepers: map[string]*keeper{}, damaged: map[string]error{}}
	return errors.Join(s.run(ctx, serving), lock.Close())
}

// takeLock takes a directory; nil if somebody else has it.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return f, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}

func (s *supervisor) run(ctx context.Context, serving func() error) error {
	list, err := readUnits(s.dir)
	if err != nil {
		return err
	}
	if logs, err := watchLogs(s.dir, s.logSize, s.log); err != nil { // as when others use up what the user may watch
		s.log.Warn("logs are not watched, and not cut", "error", err)
	} else {
		defer logs.close()
	}
	l, err := listen(s.dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for i := range list {
		if r := &list[i]; r.damaged != nil {
			s.log.Error("a unit cannot be read", "error", r.damaged)
			s.damaged[r.Spec.Name] = r.damaged
		} else {
			s.keep(&r.Spec, r.Removing)
		}
	}
	s.mu.Unlock()
	s.calls.Go(func() { s.accept(l) })
	if serving != nil {
		err = serving()
	}
	if err == nil {
		s.serve(ctx)
	}
	close(s.leaving)
	err = errors.Join(err, l.Close())
	s.keeping.Wait()
	s.calls.Wait()
	return errors.Join(err, os.Remove(filepath.Join(s.dir, socketName)))
}

// serve waits until there is nothing left to keep.
func (s *supervisor) serve(ctx context.Context) {
	wait := s.o.Patience
	for {
		s.mu.Lock()
		idle := s.idle()
		s.mu.Unlock()
		var over <-chan time.Time
		if idle {
			over = time.After(wait)
		} else {
			wait = s.o.Linger
		}
		select {
		case <-ctx.Done():
			return
		case <-s.moved:
		case <-over:
			s.mu.Lock()
			s.closed = s.idle()
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return
			}
		}
	}
}

// idle tells whether there is nothing to do. The caller has the mutex.
func (s *supervisor) idle() bool { return len(s.keepers)+len(s.damaged)+s.busy == 0 }

func (s *supervisor) move() {
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// keep has a unit kept up. The caller has the mutex.
func (s *supervisor) keep(spec *Spec, removing bool) {
	k := newKeeper(s.dir, s.o, s.log, spec, s.leaving)
	s.keepers[spec.Name] = k
	s.keeping.Go(func() {
		k.run(removing)
		s.mu.Lock()
		delete(s.keepers, spec.Name)
		s.mu.Unlock()
		s.move()
	})
}

// put makes a unit what spec says.
func (s *supervisor) put(spec *Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		k := s.keepers[spec.Name]
		if k == nil {
			if s.closed {
				s.mu.Unlock()
				return errGone
			}
			err := writeUnit(s.dir, &record{Spec: *spec})
			if err == nil {
				delete(s.damaged, spec.Name)
				s.keep(spec, false)
				k = s.keepers[spec.Name]
			}
			s.mu.Unlock()
			if err != nil {
				return err
			}
		} else {
			s.mu.Unlock()
		}
		err := k.ask(spec)
		if !errors.Is(err, errGone) || s.left() {
			return err
		}
		<-k.gone // it was removed meanwhile
	}
}

func (s *supervisor) left() bool {
	select {
	case <-s.leaving:
		return true
	default:
		return false
	}
}

func (s *supervisor) remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.mu.Lock()
	k := s.keepers[name]
	if k == nil && s.damaged[name] != nil { // what runs of it ends, and then it is forgotten
		delete(s.damaged, name)
		s.keep(&Spec{Name: name}, true)
		k = s.keepers[name]
	}
	s.mu.Unlock()
	if k == nil {
		return nil
	}
	err := k.ask(nil)
	if errors.Is(err, errGone) && !s.left() {
		if _, err = os.Stat(unitFile(s.dir, name)); errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else has removed it
		}
		return fmt.Errorf("unit %s: it cannot be removed (see %s in %s): %w", name, ownLog, s.dir, cmp.Or(err, navvy.ErrUnavailable))
	}
	return err
}

func (s *supervisor) list() []State {
	s.mu.Lock()
	list := make([]State, 0, len(s.keepers))
	for _, k := range s.keepers {
		list = append(list, k.now())
	}
	for name, err := range s.damaged {
		list = append(list, State{Name: name, Phase: Down, Exit: err.Error()})
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// logSize is how long the log of a unit may get.
func (s *supervisor) logSize(name string) int64 {
	s.mu.Lock()
	k := s.keepers[name]
	s.mu.Unlock()
	if k == nil {
		return defaultLogSize
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.logSize
}

// accept answers calls until the listener is closed.
func (s *supervisor) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		closed := s.closed
		if !closed {
			s.busy++
		}
		s.mu.Unlock()
		if closed {
			_ = conn.Close()
			continue
		}
		s.move()
		s.calls.Go(func() {
			s.answer(conn)
			s.mu.Lock()
			s.busy--
			s.mu.Unlock()
			s.move()
		})
	}
}

// answer answers the one request of a connection.
func (s *supervisor) answer(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // all was said
	_ = conn.SetReadDeadline(time.Now().Add(requestTime))
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-s.leaving:
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	var q request
	if err := readJSON(io.LimitReader(conn, 2*maxSpec), &q); err != nil {
		return
	}
	var a answer
	var err error
	switch q.Op {
	case opList:
		a.Units = s.list()
	case opPut:
		err = s.put(&q.Spec)
	case opRemove:
		err = s.remove(q.Name)
	default:
		err = fmt.Errorf("units: there is no operation %q: %w", q.Op, navvy.ErrInvalid)
	}
	a.fail(err)
	_ = conn.SetWriteDeadline(time.Now().Add(requestTime))
	_ = writeJSON(conn, &a) // who has asked may be gone
}

// Clear removes the directory of a manager that has no units left, once its supervisor has
// ended; nil if it is not there. The error wraps navvy.ErrConflict if there are units.
func Clear(ctx context.Context, dir string) error {
	list, err := readUnits(dir)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("units: %s has %d, as %s: %w", dir, len(list), list[0].Spec.Name, navvy.ErrConflict)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		lock, err := takeLock(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if lock != nil {
			return errors.Join(os.RemoveAll(dir), lock.Close())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("units: the supervisor of %s does not end: %w", dir, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}
