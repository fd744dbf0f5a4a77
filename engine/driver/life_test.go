package driver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/navvy-run/navvy"
)

// A store that ends lets calls under way end first, and takes no others.
func TestLifeEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wound := false
		var l *Life
		l = NewLife("here", func() {
			l.AwaitCalls()
			wound = true
		})
		if err := errors.Join(l.Begin(t.Context()), l.Over()); err != nil {
			t.Fatal(err)
		}
		if !l.Close() || l.Close() {
			t.Error("the first to close it is not the first, or the second is")
		}
		l.End()
		l.End()
		synctest.Wait()
		if wound {
			t.Error("it is wound up while a call is under way")
		}
		if err := l.Begin(t.Context()); !errors.Is(err, navvy.ErrClosed) {
			t.Errorf("a call of a closed store: %v", err)
		}
		l.Done()
		if l.AwaitEnd(); !wound {
			t.Error("it has ended, and is not wound up")
		}
	})
}

// The first cause of a failure is what all calls are told.
func TestLifeFails(t *testing.T) {
	t.Parallel()
	l := NewLife("here", func() {})
	first := errors.New("the disk is gone")
	if l.Failure() != nil || !l.Fail(first) || l.Fail(errors.New("what followed")) {
		t.Error("the first cause is not the one that counts")
	}
	l.End()
	l.AwaitEnd()
	if err := l.Begin(t.Context()); !errors.Is(err, navvy.ErrUnavailable) || !errors.Is(err, first) {
		t.Errorf("a call of a failed store: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Begin(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose context has ended: %v", err)
	}
}
