package container

import (
	"context"
	"net/http"
)

// Kubernetes' client hides from who watches that a connection breaks, or is not made in time: it
// tries again by itself, and gives a watch without events in the end. So it is looked at below.

// tryKey is the key of a *try in a context.
type tryKey struct{}

// try is one call that a watch is begun or renewed with.
type try struct {
	note   func(error) // is told how that goes
	broken bool        // the last request has had no answer
}

// trying gives a context for a call of which note is to be told, as soon as it is known, how it
// goes. done is called with what it returned.
func trying(ctx context.Context, note func(error)) (with context.Context, done func(error)) {
	t := &try{note: note}
	return context.WithValue(ctx, tryKey{}, t), func(err error) {
		if err != nil || !t.broken {
			note(err)
		}
	}
}

// noting is the way to the server, on which one sees what has no answer.
type noting struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := n.RoundTripper.RoundTrip(r)
	if t, ok := r.Context().Value(tryKey{}).(*try); ok {
		if t.broken = err != nil; t.broken && r.Context().Err() == nil {
			t.note(err)
		}
	}
	return answer, err
}

// WrappedRoundTripper gives what is below, as Kubernetes' client asks for it.
func (n noting) WrappedRoundTripper() http.RoundTripper { return n.RoundTripper }
