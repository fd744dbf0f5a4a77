package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
)

// spied is a store that calls somebody after each batch, and counts what it is asked for.
type spied struct {
	driver.Store
	applied func()
	reads   atomic.Int64
}

func (s *spied) Get(ctx context.Context, key []byte) ([]byte, error) {
	s.reads.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *spied) Apply(ctx context.Context, b *driver.Batch) error {
	err := s.Store.Apply(ctx, b)
	if s.applied != nil {
		s.applied()
	}
	return err
}

// A retry that is decided is carried out, though its client has gone.
func TestRetryOutlivesItsClient(t *testing.T) {
	t.Parallel()
	s := &spied{Store: newStore(t)}
	e := open(t, s)
	job := submit(t, e, noop, 3)
	for i := range int64(3) {
		answer(t, e, job, i, navvy.Succeeded)
	}
	client, leave := context.WithCancel(t.Context())
	s.applied = leave
	if n, _, err := e.Retry(client, job.ID, engine.RetrySelection{}); n != 3 || err != nil {
		t.Fatalf("%d tasks are retried, %v; should be 3", n, err)
	}
	for i := range int64(3) {
		if v := answer(t, e, job, i, navvy.Succeeded); v.Err != nil {
			t.Error(v.Err)
		}
	}
	if st := stateOf(t, e, job); !st.Ended() || st.Succeeded != 3 {
		t.Errorf("all is answered, and the state is %+v", st)
	}
}

// onLog calls a function with each line that is logged.
type onLog struct {
	slog.Handler
	called func()
}

func (onLog) Enabled(context.Context, slog.Level) bool { return true }

func (h onLog) Handle(context.Context, slog.Record) error {
	h.called()
	return nil
}

// A job that is retried just when it is to expire stays.
func TestRetryOvertakesExpiry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		keep int64
		pass time.Duration
	}{{"time", 0, 60 * 24 * time.Hour}, {"size", 1, 0}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			var e *engine.Engine
			var job *navvy.Job
			retried := false
			e, err := engine.Open(t.Context(), newStore(t), &engine.Options{
				Clock: func() time.Time { return now }, KeepSize: test.keep,
				Logger: slog.New(onLog{called: func() {
					if !retried {
						retried = true
						if _, _, err := e.Retry(t.Context(), job.ID, engine.RetrySelection{}); err != nil {
							t.Error(err)
						}
					}
				}}),
			})
			if err != nil {
				t.Fatal(err)
			}
			job = submit(t, e, noop, 1)
			answer(t, e, job, 0, navvy.Succeeded)
			if err := e.MarkRead(t.Context(), job.ID); err != nil {
				t.Fatal(err)
			}
			now = now.Add(test.pass)
			if _, removed, err := e.Expire(t.Context()); removed != 0 || err != nil || !retried {
				t.Errorf("%d jobs expire, %v; retried %t", removed, err, retried)
			}
			if st := stateOf(t, e, job); st.Pending() != 1 {
				t.Errorf("the state is %+v", st)
			}
		})
	}
}

// block lets the next batch wait until goOn is called.
func (s *spied) block() (reached <-chan struct{}, goOn func()) {
	at, until := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	s.applied = func() {
		if once.CompareAndSwap(false, true) {
			close(at)
			<-until
		}
	}
	return at, func() { close(until) }
}

// slow is an engine with a job of so many tasks, whose next commit blocks once it is
// durable: reached is closed then, and goOn lets it return.
func slow(t *testing.T, tasks int) (e *engine.Engine, job *navvy.Job, reached <-chan struct{}, goOn func()) {
	t.Helper()
	s := &spied{Store: memory.New()}
	e = open(t, s)
	job = submit(t, e, noop, tasks)
	reached, goOn = s.block()
	return e, job, reached, goOn
}

// A step that no store takes fails alone, not those that are committed with it.
func TestAnOversizedStepFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, job, reached, goOn := slow(t, 3)
		go answer(t, e, job, 0, navvy.Succeeded)
		<-reached
		refused, tooLarge, beside := make(chan error, 1), make(chan engine.Verdict, 1), make(chan engine.Verdict, 1)
		go func() {
			_, _, err := e.Retry(t.Context(), job.ID, engine.RetrySelection{Indexes: []int64{0}})
			refused <- err
		}()
		synctest.Wait()
		go func() { tooLarge <- e.Answer(t.Context(), []engine.Report{large(job, 2)})[0] }()
		synctest.Wait()
		go func() { beside <- e.Answer(t.Context(), []engine.Report{report(job, 1, navvy.Succeeded)})[0] }()
		synctest.Wait()
		goOn()
		if err := <-refused; err != nil {
			t.Errorf("a retry beside it: %v", err)
		}
		if v := <-tooLarge; !errors.Is(v.Err, navvy.ErrInvalid) {
			t.Errorf("a result that is too large: %v", v.Err)
		}
		if v := <-beside; v.Err != nil {
			t.Errorf("a result beside it: %v", v.Err)
		}
	})
}

func large(job *navvy.Job, index int64) engine.Report {
	r := report(job, index, navvy.Succeeded)
	r.Result.Message = string(make([]byte, 2<<20))
	return r
}

// Who waits for a commit of others may go; a step whose turn has not come is then not taken.
func TestAWaitingStepIsTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, job, reached, goOn := slow(t, 1)
		go func() {
			if err := e.SetPrinted(t.Context(), job.ID, []byte("first")); err != nil {
				t.Error(err)
			}
		}()
		<-reached
		ctx, cancel := context.WithCancel(t.Context())
		held := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := e.Hold(ctx, job.ID, "by hand")
				held <- err
			}()
		}
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-held; !errors.Is(err, context.Canceled) {
				t.Errorf("a hold that was taken back: %v", err)
			}
		}
		goOn()
		synctest.Wait()
		if st := stateOf(t, e, job); st.Held {
			t.Error("the job is held")
		}
		if err := e.SetPrinted(t.Context(), job.ID, []byte("second")); err != nil {
			t.Error(err)
		}
	})
}

// What is printed may be longer than a value, and then shorter again.
func TestPrinted(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := submit(t, e, noop, 1)
	for _, size := range []int{0, 10, 3<<20 + 5, 1 << 20, 512 << 10, 3} {
		want := bytes.Repeat([]byte{byte(size), 7, 9}, size/3)
		if err := e.SetPrinted(t.Context(), job.ID, want); err != nil {
			t.Fatal(err)
		}
		got, err := e.Printed(t.Context(), job.ID)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d come back, %v", len(want), len(got), err)
		}
	}
	if err := e.SetPrinted(t.Context(), job.ID, make([]byte, 8<<20+1)); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("too much: %v", err)
	}
	answer(t, e, job, 0, navvy.Succeeded)
	if _, _, err := e.Retry(t.Context(), job.ID, engine.RetrySelection{}); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Printed(t.Context(), job.ID); got != nil || err != nil {
		t.Errorf("after a retry %d bytes are printed, %v", len(got), err)
	}
}

// A command that does not fit into a record is refused before anything is stored.
func TestALargeCommandIsRefused(t *testing.T) {
	t.Parallel()
	e := open(t, newStore(t))
	job := navvy.Job{Owner: "ann", Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"echo", string(make([]byte, 2<<20))}}}}
	if _, _, err := e.Submit(t.Context(), job, false); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("it is accepted: %v", err)
	}
}

// believed is a report that says what its sender believes of the job.
func believed(job *navvy.Job, index int64, st engine.State) engine.Report {
	r := report(job, index, navvy.Succeeded)
	r.State = &st
	return r
}

// Whoever knows the state of a job spares a read of it. Where it is wrong, what is
// stored counts, for this answer and for those beside it.
func TestAnAnswerWithABelief(t *testing.T) {
	t.Parallel()
	s := &spied{Store: newStore(t)}
	e := open(t, s)
	right, stopped, held, ended := submit(t, e, noop, 1), submit(t, e, noop, 1), submit(t, e, noop, 1), submit(t, e, noop, 1)
	fresh := stateOf(t, e, right)
	reads := s.reads.Load()
	if v := e.Answer(t.Context(), []engine.Report{believed(right, 0, fresh)})[0]; v.Err != nil || !v.State.Ended() {
		t.Errorf("the belief was right: %v, %+v", v.Err, v.State)
	}
	if n := s.reads.Load() - reads; n != 0 {
		t.Errorf("%d reads for an answer whose job's state is known", n)
	}
	before := map[*navvy.Job]engine.State{stopped: stateOf(t, e, stopped), held: stateOf(t, e, held), ended: stateOf(t, e, ended)}
	if _, err := e.Stop(t.Context(), stopped.ID, "enough"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Hold(t.Context(), held.ID, "wait"); err != nil {
		t.Fatal(err)
	}
	answer(t, e, ended, 0, navvy.Failed)
	good := submit(t, e, noop, 1)
	v := e.Answer(t.Context(), []engine.Report{
		believed(stopped, 0, before[stopped]), believed(held, 0, before[held]), believed(ended, 0, before[ended]), believed(good, 0, stateOf(t, e, good)),
	})
	if !errors.Is(v[0].Err, navvy.ErrConflict) || v[1].Err != nil || !errors.Is(v[2].Err, navvy.ErrExists) || v[3].Err != nil {
		t.Errorf("stopped %v, held %v, answered %v, as it was believed %v", v[0].Err, v[1].Err, v[2].Err, v[3].Err)
	}
	if st := stateOf(t, e, ended); st.Failed != 1 || st.Succeeded != 0 {
		t.Errorf("the first answer is gone: %+v", st)
	}
	if st := stateOf(t, e, stopped); st.Succeeded != 0 || !st.Stopped {
		t.Errorf("a stopped job has an answer: %+v", st)
	}
}
