package late_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/runner/container"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/late"
	"github.com/navvy-run/navvy/runner/noop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = fmt.Errorf("nobody listens: %w", navvy.ErrUnavailable)

// swept is a driver that keeps what was asked of it, and notes its end.
type swept struct {
	noop.Driver
	settled, ended []string
	closed         bool
}

func (s *swept) Settled(token string)     { s.settled = append(s.settled, token) }
func (s *swept) Adrift() []driver.Adrift  { return []driver.Adrift{{Token: "adrift"}} }
func (s *swept) Bounds(*driver.Task) bool { return true }
func (s *swept) Sweep(_ context.Context, token string) error {
	s.ended = append(s.ended, token)
	return nil
}
func (s *swept) Why(_ context.Context, token string) string { return "why " + token }
func (s *swept) Close() error                               { s.closed = true; return nil }

// Work that cannot be done yet is refused with why; it is looked for less and less often, and once
// it can be done that is told, and the driver does all that the one does which was found.
func TestComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		found, looks := &swept{}, 0
		d := late.New(container.Absent(errAway), func(context.Context) (driver.Driver, error) {
			if looks++; looks < 20 {
				return nil, errAway
			}
			return found, nil
		}, nil)
		r := runner.New(d, nil)
		begun := time.Now()
		task := &driver.Task{Token: "mine", Spec: &navvy.Spec{Noop: &navvy.Noop{}}}
		wantAway(t, d, task)
		d.Settled("early")
		<-r.Come()
		if took := time.Since(begun); took < 4*time.Minute || took > 10*time.Minute {
			t.Errorf("20 looks took %s", took)
		}
		if caps := r.Capabilities(); caps.Absent != "" || caps.Kind != navvy.KindNoop {
			t.Errorf("when it has come: %+v", caps)
		}
		d.Settled("late")
		if err := d.Sweep(t.Context(), "left"); err != nil || len(d.Adrift()) != 1 || !d.Bounds(task) || d.Why(t.Context(), "x") != "why x" {
			t.Errorf("it does not do what was found: %v", err)
		}
		if a := r.Run(t.Context(), &runner.Task{Task: *task}); a.Reason != "" {
			t.Errorf("an attempt ends as %+v", a)
		}
		if err := d.Close(); err != nil || !found.closed || fmt.Sprint(found.settled, found.ended) != "[early late] [left]" {
			t.Errorf("it closes: %v; asked was %+v", err, found)
		}
	})
}

// wantAway checks what a driver does whose work cannot be done yet.
func wantAway(t *testing.T, d *late.Driver, task *driver.Task) {
	t.Helper()
	_, err := d.Start(t.Context(), task)
	if refusal, ok := errors.AsType[*driver.Refusal](err); !ok || refusal.Message != errAway.Error() {
		t.Errorf("it is refused with %v", err)
	}
	if d.Adrift() != nil || d.Bounds(task) || d.Why(t.Context(), "x") != "" || d.Sweep(t.Context(), "x") != nil || d.Strays() != nil {
		t.Error("before it has come it does something")
	}
	if caps := d.Capabilities(); caps.Absent != errAway.Error() {
		t.Errorf("before it has come: %+v", caps)
	}
}

// Whoever is closed looks no longer, also in the middle of a look.
func TestNeverComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan struct{})
		d := late.New(container.Absent(errAway), func(ctx context.Context) (driver.Driver, error) {
			close(asked)
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil)
		<-asked
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		select {
		case <-d.Come():
			t.Error("it has come")
		default:
		}
	})
}
