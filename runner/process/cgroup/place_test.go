package cgroup

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A tree that begins while another one is about to remove its directory waits for it.
func TestSlowSweeper(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "navvy-1")
	if err := makeDir(place); err != nil {
		t.Fatal(err)
	}
	dir, err := lock(place, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = dir.Close() }) // which has lost its processor
	h := &hierarchy{mount: mount{version: 1}, place: place}
	if _, err := h.makePlace(); err != nil {
		t.Error(err)
	}
	_ = h.held.Close()
}
