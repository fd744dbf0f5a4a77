package pebble

import (
	"sync"

	lsm "github.com/cockroachdb/pebble/v2"
)

// scheduler lets as many compactions run as the storage engine wants. It does
// what the engine's own one does, without looking ten times a second: a store
// at rest does nothing at all. A new compaction is looked for when one ends,
// and when a flush has made more of them allowed.
//
// Calls into the engine take its locks, so they are made without mu.
type scheduler struct {
	db     lsm.DBForCompaction
	grants sync.Mutex // held while compactions are granted
	looks  sync.WaitGroup

	mu      sync.Mutex
	running int
	allowed int // when it was last looked at
	ended   bool
}

var (
	_ lsm.CompactionScheduler   = (*scheduler)(nil)
	_ lsm.CompactionGrantHandle = (*scheduler)(nil)
)

// Register implements lsm.CompactionScheduler.
func (s *scheduler) Register(_ int, db lsm.DBForCompaction) { s.db = db }

// Unregister implements lsm.CompactionScheduler. It waits for what is being granted.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.looks.Wait()
	s.grants.Lock()
	defer s.grants.Unlock()
}

// TrySchedule implements lsm.CompactionScheduler.
func (s *scheduler) TrySchedule() (bool, lsm.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room() {
		return false, nil
	}
	s.running++
	return true, s
}

// room tells whether one more compaction may run. mu is held.
func (s *scheduler) room() bool {
	if s.ended {
		return false
	}
	s.allowed = s.db.GetAllowedWithoutPermission()
	return s.allowed > s.running
}

// UpdateGetAllowedWithoutPermission implements lsm.CompactionScheduler.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.allowed; s.room() && s.allowed > before {
		s.looks.Go(s.grant) // the caller holds the engine's locks
	}
}

// Done implements lsm.CompactionGrantHandle.
func (s *scheduler) Done() {
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.grant()
}

// grant starts the compactions that wait, as far as they are allowed.
func (s *scheduler) grant() {
	s.grants.Lock()
	defer s.grants.Unlock()
	for {
		s.mu.Lock()
		room := s.room()
		s.mu.Unlock()
		if !room {
			return
		}
		if waiting, _ := s.db.GetWaitingCompaction(); !waiting || !s.db.Schedule(s) {
			return
		}
		s.mu.Lock()
		s.running++
		s.mu.Unlock()
	}
}

// Started, MeasureCPU and CumulativeStats implement lsm.CompactionGrantHandle.
func (s *scheduler) Started() {}

// MeasureCPU does nothing.
func (s *scheduler) MeasureCPU(lsm.CompactionGoroutineKind) {}

// CumulativeStats does nothing.
func (s *scheduler) CumulativeStats(lsm.CompactionGrantHandleStats) {}
