package pebble

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// spaceCheck is how often a full disk is looked at. Only while it is full does
// the timer run.
const spaceCheck = time.Second

// space is what a store does about a full disk. The first write that finds no
// space has the ballast removed, a file that is there for just this, and goes
// on at once: what is under way can finish while the engine, told by onFull,
// takes nothing new. When the ballast is used up too, writes wait. As soon as
// there is space for the ballast and as much again, it is put back, and the
// disk counts as no longer full.
type space struct {
	fs      vfs.FS // the real one
	dir     string
	ballast string // the file's path
	size    int64  // of the ballast
	onFull  func(bool)

	mu      sync.Mutex
	retry   chan struct{} // closed, and replaced, at each look at the disk
	full    bool
	held    bool          // the ballast is there
	patient bool          // writes may wait; not while the store is being opened
	quit    chan struct{} // closed when waiting is over for good
	done    sync.WaitGroup
}

func newSpace(fs vfs.FS, dir string, size int64, onFull func(bool)) *space {
	s := &space{
		fs: fs, dir: dir, ballast: fs.PathJoin(dir, "ballast"), size: size, onFull: onFull,
		retry: make(chan struct{}), quit: make(chan struct{}),
	}
	s.held = s.makeBallast()
	return s
}

// wait is called when a write has found no space. It returns true when trying
// again makes sense, false when nobody is to wait any longer.
func (s *space) wait() bool {
	s.mu.Lock()
	if s.stopped() {
		s.mu.Unlock()
		return false
	}
	if s.held {
		s.held = s.fs.Remove(s.ballast) != nil
		if !s.held {
			s.startLocked()
			s.mu.Unlock()
			return true
		}
	}
	if !s.patient {
		s.mu.Unlock()
		return false
	}
	s.startLocked()
	retry := s.retry
	s.mu.Unlock()
	select {
	case <-retry:
		return true
	case <-s.quit:
		return false
	}
}

// startLocked begins to watch the disk.
func (s *space) startLocked() {
	if s.full {
		return
	}
	s.full = true
	s.done.Go(s.watch)
}

// watch runs while the disk is full.
func (s *space) watch() {
	s.onFull(true)
	ticker := time.NewTicker(spaceCheck)
	defer ticker.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-ticker.C:
		}
		if s.look() {
			s.onFull(false)
			return
		}
	}
}

// look tells whether the disk is full no longer, and lets the writers try.
func (s *space) look() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.retry)
	s.retry = make(chan struct{})
	if !s.roomy() {
		return false
	}
	s.held = s.makeBallast()
	s.full = false
	return true
}

// roomy tells whether there is space for the ballast and as much again.
func (s *space) roomy() bool {
	usage, err := s.fs.GetDiskUsage(s.dir)
	return err == nil && usage.AvailBytes >= 2*uint64(max(s.size, 4<<20))
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

// wakeful lets writes wait for space from now on.
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
