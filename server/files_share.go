package server

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/navvy-run/navvy/share/place"
)

// ShareIDFile is the file at the top of a server's share by which workers know that share:
// no owner's, and new with each process of the server, so that it is not in a directory that
// is no more the share, nor in an earlier copy.
const ShareIDFile = "share-id"

// sharing is what ShareIDFile holds.
type sharing struct {
	mu    sync.Mutex
	id    string // once it is written
	tried time.Time
}

const (
	shareIDTime  = 5 * time.Second // to write it
	shareIDAgain = time.Minute     // after a failure
)

// shareID writes ShareIDFile when the first worker comes, and tells what it holds; empty if
// that could not be: workers copy files then.
func (s *Server) shareID(ctx context.Context) string {
	if s.opts.Files == nil {
		return ""
	}
	s.sharing.mu.Lock()
	defer s.sharing.mu.Unlock()
	now := s.opts.Clock()
	if s.sharing.id != "" || now.Sub(s.sharing.tried) < shareIDAgain {
		return s.sharing.id
	}
	s.sharing.tried = now
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shareIDTime)
	defer cancel()
	id := rand.Text()
	if _, err := s.opts.Files.Put(ctx, ShareIDFile, strings.NewReader(id+"\n"), &place.PutOptions{}); err != nil {
		s.opts.Logger.Warn("workers cannot know the share, and copy what they could mount", "error", err)
		return ""
	}
	s.sharing.id = id
	return id
}
