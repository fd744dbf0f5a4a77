package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// marks note in files which containers were asked to end, before they are: how one ends then
// is not its task's own end, also for whoever comes after this process was killed.
type marks struct{ dir string } // empty for none

// set notes a container. What was noted before stays.
func (m marks) set(id string) error {
	if m.dir == "" {
		return nil
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	f, err := os.OpenFile(m.path(id), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	return f.Close()
}

// since tells when a container was noted.
func (m marks) since(id string) (at time.Time, noted bool) {
	if m.dir == "" {
		return time.Time{}, false
	}
	info, err := os.Stat(m.path(id))
	if err != nil {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// clear forgets a container that is gone.
func (m marks) clear(id string) {
	if m.dir != "" {
		_ = os.Remove(m.path(id)) // most were never noted; the next sweep clears what stays
	}
}

// list lists those that are noted.
func (m marks) list() []string {
	if m.dir == "" {
		return nil
	}
	entries, _ := os.ReadDir(m.dir) // it is made for the first
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

func (m marks) path(id string) string { return filepath.Join(m.dir, id) }

// ending tells whether and since when a container is to end, or has ended, because it was
// asked to, and not for its timeout.
func (d *Driver) ending(s *state) (since time.Time, is bool) {
	since, is = d.marks.since(s.id)
	deadline := s.deadline()
	return since, is && (deadline.IsZero() || since.Before(deadline))
}

// leave lets a container that was asked to end do so, and then removes it. It returns errGone.
func (d *Driver) leave(ctx context.Context, s *state, since time.Time) error {
	runs := s.phase == phaseRunning || d.held.held(s.id) // or whoever has asked it removes it
	if runs && time.Since(since) < s.grace() {
		return errGone
	}
	return errors.Join(errGone, d.discard(ctx, s.id))
}

// discard removes a container.
func (d *Driver) discard(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := d.backend.remove(ctx, id); err != nil {
		return err
	}
	d.marks.clear(id)
	d.left.forget(id)
	return nil
}
