package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// standing tells which owners may do nothing any more, although jobs of theirs run:
// those of whom a certificate was revoked and who have no other one that is good. It
// is read from the registry when somebody asks, and again when certificates change.
type standing struct {
	mu sync.Mutex
	// revoked are the owners of whom a certificate was revoked, and until when they
	// have another one. Nil if it has to be read.
	revoked map[string]time.Time
	next    chan struct{} // closed at the next change; nil if nobody waits
}

// changed says that certificates were issued or revoked.
func (t *standing) changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = nil
	if t.next != nil {
		close(t.next)
		t.next = nil
	}
}

// inStanding is ErrDenied for an owner who may do nothing any more, and gives a
// channel that is closed when that may be otherwise.
func (s *Server) inStanding(ctx context.Context, owner string) (changed <-chan struct{}, err error) {
	t := &s.standing
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revoked == nil {
		// For all who ask, and so until it is read, also if this one has gone.
		read, err := s.readStanding(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
		t.revoked = read
	}
	if until, ok := t.revoked[owner]; ok && !s.opts.Clock().Before(until) {
		return nil, fmt.Errorf("the certificates of %s were revoked: %w", owner, navvy.ErrDenied)
	}
	if t.next == nil {
		t.next = make(chan struct{})
	}
	return t.next, nil
}

func (s *Server) readStanding(ctx context.Context) (map[string]time.Time, error) {
	gone := map[string]bool{}
	err := each(ctx, s.eng.Registry(), engine.KindRevocation, "", func(serial string, _ *revoked) error {
		gone[serial] = true
		return nil
	})
	if err != nil || len(gone) == 0 {
		return map[string]time.Time{}, err
	}
	good, out := map[string]time.Time{}, map[string]time.Time{}
	err = each(ctx, s.eng.Registry(), engine.KindCertificate, "", func(serial string, r *issued) error {
		switch role := auth.Role(r.Role); {
		case role != auth.RoleUser && role != auth.RoleAdmin: // the others own no jobs
		case gone[serial]:
			out[r.Name] = time.Time{}
		case r.Expires.After(good[r.Name]):
			good[r.Name] = r.Expires
		}
		return nil
	})
	for name := range out {
		out[name] = good[name]
	}
	return out, err
}
