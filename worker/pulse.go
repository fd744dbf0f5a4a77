package worker

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy"
)

// pulse tells whether a session's process was there all the time. One that was not, since
// it was frozen or its machine had no time for it, has lost its leases: what it is told
// then may have been meant for who it was before, and others may be at work on it. It
// says to the server anew what it has.
type pulse struct {
	lease time.Duration // 0 if leases last as long as sessions
	began time.Time
	last  atomic.Int64 // the last sign of life, in ns since began
}

func newPulse(lease time.Duration) *pulse { return &pulse{lease: lease, began: time.Now()} }

// errAbsent ends a session whose process was not there for as long as a lease.
var errAbsent = fmt.Errorf("this process had no time for longer than a lease: %w", navvy.ErrUnavailable)

// check gives errAbsent if there was no sign of life for as long as a lease lasts.
func (p *pulse) check() error {
	if p.lease > 0 && time.Since(p.began)-time.Duration(p.last.Load()) > p.lease {
		return errAbsent
	}
	return nil
}

// beat is a sign of life, unless it comes too late.
func (p *pulse) beat() error {
	if err := p.check(); err != nil {
		return err
	}
	p.last.Store(int64(time.Since(p.began)))
	return nil
}
