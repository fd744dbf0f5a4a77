package container

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// reach tells whether the cluster says what its watches ask for. What fails for a moment is
// told to nobody but those who ask just then; what goes on failing is logged once, and so is
// its end.
type reach struct {
	log       *slog.Logger
	namespace string

	mu      sync.Mutex
	failing map[string]bool // what is asked for in vain
	why     string          // the first word of that, as long as anything is
	answers bool            // the cluster answers, and says no
	since   time.Time       // of that
	timer   *time.Timer     // until it is logged
	logged  bool
}

// unreachedFor is how long a cluster is not reached before the log says so.
const unreachedFor = 5 * time.Second

func newReach(log *slog.Logger, namespace string) *reach {
	return &reach{log: log, namespace: namespace, failing: map[string]bool{}}
}

// note takes how it went to ask for something.
func (r *reach) note(what string, err error) {
	if errors.Is(err, context.Canceled) {
		return // nobody wants to know any more
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) { // it answers, and is asked anew
		delete(r.failing, what)
		if len(r.failing) == 0 {
			r.backLocked()
		}
		return
	}
	if len(r.failing) == 0 {
		r.why, r.since = brief(err), time.Now()
		r.answers = apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)
		r.timer = time.AfterFunc(unreachedFor, r.tell)
	}
	r.failing[what] = true
}

// tell logs that it goes on failing.
func (r *reach) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failing) == 0 || r.logged || time.Since(r.since) < unreachedFor {
		return
	}
	r.logged = true
	if r.answers {
		r.log.Warn("the cluster does not tell of its Jobs; containers wait, and it is asked again until it does", "namespace", r.namespace, "err", r.why)
		return
	}
	r.log.Warn("the cluster cannot be reached; containers wait, and it is tried again until it can be", "namespace", r.namespace, "err", r.why)
}

// backLocked notes that nothing fails any more.
func (r *reach) backLocked() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if r.logged {
		r.log.Info("the cluster is reached again", "namespace", r.namespace, "away", time.Since(r.since).Round(time.Second))
	}
	r.logged, r.why = false, ""
}

// close ends what is left to do.
func (r *reach) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logged = true
	if r.timer != nil {
		r.timer.Stop()
	}
}

// words say that the cluster is not reached; empty if it is.
func (r *reach) words() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failing) == 0 {
		return ""
	}
	if r.answers {
		return "the cluster does not tell of its Jobs, and is asked again until it does: " + r.why
	}
	return "the cluster cannot be reached, and is tried again until it can be: " + r.why
}

// brief is an error of a call without the URL of what was asked for, which says less to people
// than what went wrong does.
func brief(err error) string {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, `Get "`); ok {
		if _, why, ok := strings.Cut(rest, `": `); ok {
			return why
		}
	}
	return text
}
