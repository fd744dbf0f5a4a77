package manager_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/output"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spied is a store that tells what it is asked, before or afterwards.
type spied struct {
	driver.Store
	get     func(key []byte)
	apply   func()
	scanned func(ctx context.Context, table byte) error
	free    atomic.Uint64 // bytes on the disk
}

func (s *spied) Info() driver.Info {
	return driver.Info{Kind: "spied", Free: func() (uint64, error) { return s.free.Load(), nil }}
}

func (s *spied) Get(ctx context.Context, key []byte) ([]byte, error) {
	if s.get != nil {
		s.get(key)
	}
	return s.Store.Get(ctx, key)
}

func (s *spied) Apply(ctx context.Context, b *driver.Batch) error {
	if s.apply != nil {
		s.apply()
	}
	return s.Store.Apply(ctx, b)
}

func (s *spied) Scan(ctx context.Context, r driver.Range, fn func(key, value []byte) error) error {
	err := s.Store.Scan(ctx, r, fn)
	if s.scanned != nil && err == nil && len(r.Start) > 0 {
		err = s.scanned(ctx, r.Start[0])
	}
	return err
}

// scene is a manager with one worker, on a store in memory. It is for a bubble of
// package synctest.
type scene struct {
	*testing.T
	ctx     context.Context
	store   *spied
	mgr     *manager.Manager
	session *manager.Session
}

func newScene(t *testing.T, opts *manager.Options) *scene {
	t.Helper()
	s := &scene{T: t, ctx: t.Context(), store: &spied{Store: memory.New()}}
	s.store.free.Store(1 << 40)
	eng, err := engine.Open(s.ctx, s.store, nil)
	s.must(err)
	s.mgr = manager.New(eng, opts)
	s.session = s.mgr.Attach(manager.Worker{Name: "w", Kinds: []string{navvy.KindNoop}})
	return s
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// run lets the manager run until the test ends.
func (s *scene) run() {
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.mgr.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.Errorf("the manager has ended: %v", err)
		}
	})
}

func (s *scene) submit(j navvy.Job, inputs int) navvy.JobID {
	s.Helper()
	j.Owner, j.Spec.Noop = "ann", &navvy.Noop{}
	sub, id, err := s.mgr.Submit(s.ctx, j, false)
	s.must(err)
	for i := range inputs {
		s.must(sub.Add(s.ctx, fmt.Append(nil, i)))
	}
	s.must(sub.Seal(s.ctx))
	return id
}

// next gives what the worker is told to run when everybody has come to rest.
func (s *scene) next() []manager.Assignment {
	s.Helper()
	synctest.Wait()
	over, cancel := context.WithCancel(s.ctx)
	cancel()
	var w manager.Work
	if err := s.session.Next(over, &w); err != nil && !errors.Is(err, context.Canceled) {
		s.Fatal(err)
	}
	return w.Assignments
}

// report ends attempts, each with output of so many bytes.
func (s *scene) report(size int, list ...manager.Assignment) {
	s.Helper()
	var done []manager.Finished
	for _, a := range list {
		frames := output.AppendFrame(nil, output.Stdout, make([]byte, size))
		done = append(done, manager.Finished{Task: navvy.TaskID{Job: a.Job.ID, Index: a.Index}, Attempt: navvy.Attempt{
			ID: a.Attempt, Outcome: navvy.OutcomeSucceeded, Started: time.Now(), Finished: time.Now(),
			Output: navvy.Output{Inline: frames, Length: int64(len(frames)), CRC: output.UpdateCRC(0, frames), Stdout: int64(size)},
		}})
	}
	s.must(s.session.Done(s.ctx, done))
}

// A detached job that is accepted while the queue is being read is served.
func TestAcceptedDuringRefill(t *testing.T) {
	t.Parallel()
	for nth, earlier := range []int{0, 1, 1} { // the lines are listed, then the end of them, then one is read
		synctest.Test(t, func(t *testing.T) {
			s := newScene(t, &manager.Options{Parallelism: 2})
			for range earlier {
				s.submit(navvy.Job{Detached: true}, 1)
			}
			eng, err := engine.Open(s.ctx, s.store, nil)
			s.must(err)
			s.mgr = manager.New(eng, &manager.Options{Parallelism: 3})
			s.session = s.mgr.Attach(manager.Worker{Name: "w", Kinds: []string{navvy.KindNoop}})
			scanned, goOn := make(chan struct{}), make(chan struct{})
			var scans atomic.Int32
			s.store.scanned = func(_ context.Context, table byte) error {
				if table == 'l' && scans.Add(1) == int32(nth+1) {
					close(scanned)
					<-goOn
				}
				return nil
			}
			s.run()
			<-scanned
			s.submit(navvy.Job{Detached: true}, 1)
			s.submit(navvy.Job{Detached: true, Priority: 1}, 1) // before what is being read
			close(goOn)
			synctest.Wait()
			if list := s.next(); len(list) != earlier+2 {
				t.Errorf("scan %d: %d tasks start, should be %d", nth+1, len(list), earlier+2)
			}
		})
	}
}

// A client that goes away while its call starts tasks of all jobs takes nobody's start with it.
func TestClientLeavesWhilePumping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{Parallelism: 1})
		s.run()
		s.submit(navvy.Job{}, 3)
		first := s.next()
		other := s.submit(navvy.Job{}, 3)
		second := s.next()
		_, err := s.mgr.Hold(s.ctx, other, "", false)
		s.must(err)
		s.report(0, second...)
		synctest.Wait()

		client, leave := context.WithCancel(s.ctx)
		reading, goOn := make(chan struct{}), make(chan struct{})
		var once atomic.Bool
		s.store.scanned = func(ctx context.Context, table byte) error {
			if table == 'i' && once.CompareAndSwap(false, true) {
				close(reading)
				<-goOn
				return ctx.Err()
			}
			return nil
		}
		resumed := make(chan struct{})
		go func() {
			defer close(resumed)
			_, _ = s.mgr.Resume(client, other, engine.ResumeOptions{}) // may fail: its client is gone
		}()
		<-reading
		s.report(0, first...) // the call that is reading is to start what comes next
		synctest.Wait()
		leave()
		close(goOn)
		<-resumed
		if list := s.next(); len(list) != 2 {
			t.Errorf("%d tasks start, should be one of each job", len(list))
		}
	})
}

// However much comes in at once, it is written in pieces that a store takes.
func TestManyLargeAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		s := newScene(t, &manager.Options{Parallelism: n})
		s.run()
		id := s.submit(navvy.Job{Detached: true}, n)
		s.report(60<<10, s.next()...)
		synctest.Wait()
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); st.Counts.Succeeded != n {
			t.Errorf("%d of %d tasks have succeeded", st.Counts.Succeeded, n)
		}
	})
}

// What a worker sends beside the output is cut to what a record holds, and
// output that is not what it says is none.
func TestUntrustedReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{MaxLost: 1})
		s.run()
		id := s.submit(navvy.Job{Detached: true}, 2)
		long := string(make([]byte, 2<<20))
		for _, a := range s.next() {
			f := manager.Finished{Task: navvy.TaskID{Job: id, Index: a.Index}, Attempt: navvy.Attempt{ID: a.Attempt, Outcome: navvy.OutcomeFailed, Message: long, Reason: navvy.Reason(long)}}
			if a.Index == 1 {
				f.Attempt.Output.Inline = []byte("no frames")
			}
			s.must(s.session.Done(s.ctx, []manager.Finished{f}))
		}
		synctest.Wait()
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); st.Counts.Failed != 2 {
			t.Errorf("%d of 2 tasks have failed", st.Counts.Failed)
		}
	})
}

// A client that leaves does not hold the job of one that has just come.
func TestLeaveAndAttach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		id := s.submit(navvy.Job{}, 2)
		j, _, err := s.mgr.Job(s.ctx, id)
		s.must(err)
		leave := s.mgr.AttachClient(j)
		leaving, goOn := make(chan struct{}), make(chan struct{})
		var once atomic.Bool
		s.store.get = func(key []byte) {
			if key[0] == 's' && once.CompareAndSwap(false, true) {
				close(leaving)
				<-goOn
			}
		}
		left := make(chan error, 1)
		go func() { left <- leave(s.ctx) }()
		<-leaving
		s.mgr.AttachClient(j)
		resumed := make(chan error, 1)
		go func() {
			_, err := s.mgr.Resume(s.ctx, id, engine.ResumeOptions{Attached: true})
			resumed <- err
		}()
		synctest.Wait()
		close(goOn)
		s.must(<-left)
		s.must(<-resumed)
		st, err := s.mgr.Status(s.ctx, id)
		if s.must(err); st.Held {
			t.Errorf("the job is held: %s", st.Why)
		}
	})
}

// A job whose data are damaged is held, or passed over, and others go on.
func TestDamagedJob(t *testing.T) {
	t.Parallel()
	for _, table := range []byte{'i', 'j', 's'} {
		t.Run(string(table), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, &manager.Options{Parallelism: 1})
				bad := s.submit(navvy.Job{Detached: true}, 3)
				_, err := s.mgr.Tick(s.ctx)
				s.must(err)
				s.report(0, s.next()...)
				s.must(s.mgr.Settle(s.ctx))
				s.damage(table, bad)
				eng, err := engine.Open(s.ctx, s.store, nil)
				s.must(err)
				s.mgr = manager.New(eng, nil)
				s.session = s.mgr.Attach(manager.Worker{Name: "w", Kinds: []string{navvy.KindNoop}})
				s.run()
				good := s.submit(navvy.Job{Detached: true}, 1)
				list := s.next()
				if len(list) != 1 || list[0].Job.ID != good {
					t.Fatalf("%d tasks start, should be that of the other job", len(list))
				}
				st, err := s.mgr.Status(s.ctx, bad)
				if err == nil && !st.Held {
					t.Error("the damaged job is not held, and reads well")
				}
			})
		})
	}
}

// damage overwrites what the store holds of a job in a table.
func (s *scene) damage(table byte, id navvy.JobID) {
	s.Helper()
	var b driver.Batch
	s.must(s.store.Scan(s.ctx, driver.Prefix(append([]byte{table}, id...)), func(key, _ []byte) error {
		b.Put(append([]byte(nil), key...), []byte("damage"))
		return nil
	}))
	s.must(s.store.Apply(s.ctx, &b))
}

// Output waits for space on a disk that is nearly full; what is told to stop does not.
func TestOutputWaitsForSpace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, nil)
		s.run()
		id := s.submit(navvy.Job{Detached: true}, 1)
		a := s.next()[0]
		out, err := s.mgr.WriteOutput("", manager.Ref{Task: navvy.TaskID{Job: id, Index: a.Index}, Attempt: a.Attempt})
		s.must(err)
		frames := output.AppendFrame(nil, output.Stdout, make([]byte, 100))
		appended := make(chan error, 1)
		send := func() {
			_, err := out.Append(s.ctx, frames)
			appended <- err
		}
		s.store.free.Store(1 << 20)
		go send()
		time.Sleep(time.Hour) //nolint:forbidigo // in a bubble
		if len(appended) > 0 || !s.mgr.OutputWaits() {
			t.Fatal("the output does not wait")
		}
		s.store.free.Store(1 << 40)
		s.must(<-appended)
		if s.mgr.OutputWaits() {
			t.Error("there is space, and output counts as waiting")
		}
		s.store.free.Store(1 << 20)
		go send()
		synctest.Wait()
		_, err = s.mgr.Stop(s.ctx, id, "by hand")
		s.must(err)
		if err := <-appended; !errors.Is(err, navvy.ErrExhausted) {
			t.Errorf("output of a task that is to stop: %v", err)
		}
	})
}

// A job whose state is damaged while it runs ends nobody else: its answers are
// dropped, and it can be removed, which ends what still runs of it.
func TestStateDamagedWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &manager.Options{Parallelism: 2})
		s.run()
		bad, good := s.submit(navvy.Job{}, 2), s.submit(navvy.Job{}, 1)
		list := s.next()
		if len(list) != 3 {
			t.Fatalf("%d tasks start, should be 3", len(list))
		}
		var b driver.Batch
		b.Put(append([]byte("s"), bad...), []byte("no state"))
		s.must(s.store.Apply(s.ctx, &b))
		s.report(0, list[0], list[2])
		synctest.Wait()
		if st, err := s.mgr.Status(s.ctx, good); err != nil || st.Counts.Succeeded != 1 {
			t.Errorf("the other job: %+v, %v", st, err)
		}
		if err := s.mgr.Remove(s.ctx, bad, false); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("remove without force: %v", err)
		}
		removed := make(chan error, 1)
		go func() { removed <- s.mgr.Remove(s.ctx, bad, true) }()
		synctest.Wait()
		select {
		case err := <-removed:
			t.Errorf("removed while a task of it runs: %v", err)
		default:
		}
		s.report(0, list[1])
		s.must(<-removed)
		if _, _, err := s.mgr.Job(s.ctx, bad); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("the removed job: %v", err)
		}
		s.must(s.mgr.AwaitIdle(s.ctx))
	})
}
