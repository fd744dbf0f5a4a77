package pebble

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/navvy-run/navvy"
)

// space is what a store does about a full disk. The first write that finds no
// space has the ballast removed, a file that is there for just this, and goes
// on at once. From then on the disk counts as full: the engine is told, by
// onFull, and calls that write are admitted only while there is a reserve left
// for what the storage engine has under way; they wait before they change
// anything, so reading goes on. As soon as there is space for the ballast and
// as much again, it is put back, and the disk is no longer full. Only while it
// is full does a timer run.
type space struct {
	fs      vfs.FS // the real one
	dir     string
	ballast string // the file's path
	size    int64  // of the ballast, none if not positive
	every   time.Duration
	onFull  func(bool)
	full    atomic.Bool
	given   atomic.Int64 // how often the ballast was given up

	mu       sync.Mutex
	retry    chan struct{} // closed, and replaced, at each look at the disk
	missed   bool          // a write found no space since the last look
	held     bool          // the ballast is there
	had      bool          // there was a ballast
	patient  bool          // writes may wait; not while the store is being opened
	watching bool
	quit     chan struct{} // closed when waiting is over for good
	done     sync.WaitGroup
}

func newSpace(fs vfs.FS, dir string, o *Options) *space {
	return &space{
		fs: fs, dir: dir, ballast: fs.PathJoin(dir, "ballast"), size: o.Ballast, every: o.spaceCheck, onFull: o.OnFull,
		retry: make(chan struct{}), quit: make(chan struct{}),
	}
}

// open makes the ballast.
func (s *space) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = s.makeBallast()
	s.had = s.held
}

// admit lets a call that will write n bytes go on. While the disk is full it
// waits for space.
func (s *space) admit(ctx context.Context, n int) error {
	for s.full.Load() {
		s.mu.Lock()
		retry := s.retry
		s.mu.Unlock()
		if free, ok := s.free(); !ok || free >= s.unit()/4+int64(n) {
			return nil
		}
		select {
		case <-retry:
		case <-ctx.Done():
			return fmt.Errorf("disk of %s is full: %w: %w: %w", s.dir, navvy.ErrExhausted, navvy.ErrUnavailable, ctx.Err())
		case <-s.quit:
			return fmt.Errorf("disk of %s is full: %w: %w", s.dir, navvy.ErrExhausted, navvy.ErrUnavailable)
		}
	}
	return nil
}

// wait is called when a write has found no space that began when the ballast had been
// given up so many times. It returns true when trying again makes sense, false when
// nobody is to wait any longer.
func (s *space) wait(given int64) bool {
	s.mu.Lock()
	switch {
	case s.stopped(), !s.held && !s.patient:
		s.mu.Unlock()
		return false
	case s.given.Load() != given:
		s.mu.Unlock()
		return true // by another write, at the same time
	case s.held:
		s.held = false
		s.watch()
		err := s.fs.Remove(s.ballast)
		s.given.Add(1)
		s.mu.Unlock()
		return err == nil
	}
	s.missed = true
	s.watch()
	retry := s.retry
	s.mu.Unlock()
	select {
	case <-retry:
	case <-s.quit: // one last time
	}
	return true
}

// watch makes the disk count as full until there is space. mu is held.
func (s *space) watch() {
	s.full.Store(true)
	if !s.watching {
		s.watching = true
		s.done.Go(s.untilRoomy)
	}
}

// untilRoomy runs while the disk is full.
func (s *space) untilRoomy() {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	told := false // what onFull was told last
	for {
		if full := s.full.Load(); full != told {
			s.onFull(full)
			told = full
		}
		s.mu.Lock()
		full := s.full.Load()
		s.watching = full || told
		watching := s.watching
		s.mu.Unlock()
		switch {
		case !watching:
			return
		case full != told:
			continue
		}
		select {
		case <-s.quit:
			return
		case <-ticker.C:
			s.look()
		}
	}
}

// look lets the writers try again, and finds out whether the disk is full still.
func (s *space) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.missed && s.roomy() {
		s.held = s.makeBallast()
		s.full.Store(s.had && !s.held)
	}
	s.missed = false
	close(s.retry)
	s.retry = make(chan struct{})
}

// free is how many bytes can be written, if that can be told.
func (s *space) free() (int64, bool) {
	usage, err := s.fs.GetDiskUsage(s.dir)
	return int64(min(usage.AvailBytes, 1<<62)), err == nil
}

// unit is what amounts of space are measured in.
func (s *space) unit() int64 {
	if s.size > 0 {
		return s.size
	}
	return 4 << 20
}

// roomy tells whether there is space for the ballast and as much again.
func (s *space) roomy() bool {
	free, ok := s.free()
	return ok && free >= 2*s.unit()
}

// makeBallast puts the ballast there unless it is, or would not fit, or the
// file system cannot reserve space.
func (s *space) makeBallast() bool {
	if info, err := s.fs.Stat(s.ballast); err == nil && info.Size() >= s.size {
		return s.size > 0
	}
	if s.size <= 0 || !s.roomy() {
		return false
	}
	file, err := s.fs.OpenReadWrite(s.ballast, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false
	}
	err = file.Preallocate(0, s.size)
	if err == nil {
		// Only a complete ballast has its full size.
		_, err = file.WriteAt([]byte{0}, s.size-1)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = s.fs.Remove(s.ballast)
	}
	return err == nil
}

// bePatient lets writes wait for space from now on.
func (s *space) bePatient() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patient = true
}

// stop ends all waiting, for good.
func (s *space) stop() {
	s.mu.Lock()
	if !s.stopped() {
		close(s.quit)
	}
	s.mu.Unlock()
	s.done.Wait()
}

func (s *space) stopped() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}
