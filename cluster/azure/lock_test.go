package azure

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/navvy-run/navvy/cluster/driver"
)

func TestLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newCloud()
		a, b := cloud.driver(t), cloud.driver(t)
		since := time.Now()
		l, err := a.Lock(t.Context(), "Demo", driver.Holder{Who: "jörg@host", What: "apply", Since: since})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) //nolint:forbidigo // in a bubble: the lease is renewed
		_, err = b.Lock(t.Context(), "Demo", driver.Holder{Who: "b"})
		var held *driver.HeldError
		if !errors.As(err, &held) || held.Who != "j??rg@host" || held.What != "apply" || !held.Since.Equal(since.Truncate(time.Second)) {
			t.Fatalf("got %v", err)
		}
		if names, err := b.Clusters(t.Context()); err != nil || len(names) != 0 {
			t.Errorf("a lock is no cluster: %v, %v", names, err)
		}
		if err := l.Release(t.Context()); err != nil || len(cloud.groups) != 0 {
			t.Errorf("%v, left: %v", err, cloud.groups)
		}
	})
}

// A lock is lost when it could not be renewed for a minute, and not before; that of a dead
// holder is free after one.
func TestLockLost(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*fault{
		"cut off": {err: errors.New("no route to host")}, "taken": {status: 409, code: "LeaseIdMismatchWithLeaseOperation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cloud := newCloud()
				d := cloud.driver(t)
				l, err := d.Lock(t.Context(), "Demo", driver.Holder{Who: "a"})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				cloud.mu.Lock()
				cloud.fault = func(call string, _ int) *fault {
					if call == "POST lease" {
						return f
					}
					return nil
				}
				cloud.mu.Unlock()
				<-l.Lost()
				if took := time.Since(began); took > leaseTime+time.Second || f.err != nil && took < leaseTime-time.Second {
					t.Errorf("it was lost after %s", took)
				}
				cloud.mu.Lock()
				cloud.fault = nil
				cloud.mu.Unlock()
				time.Sleep(leaseTime) //nolint:forbidigo // in a bubble
				again, err := d.Lock(t.Context(), "Demo", driver.Holder{Who: "b"})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(again.Release(t.Context()), l.Release(t.Context())); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// That it takes long to say who has the lock is of its minute: who cannot renew it knows that
// it is lost before somebody else can have it.
func TestLockSlow(t *testing.T) {
	t.Parallel()
	for _, slow := range []time.Duration{25 * time.Second, 45 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			cloud, began := newCloud(), time.Now()
			cloud.fault = func(call string, _ int) *fault {
				switch {
				case call == "PATCH navvy-lock":
					time.Sleep(slow) //nolint:forbidigo // in a bubble
				case call == "POST lease" && time.Since(began) >= slow:
					return &fault{err: errors.New("no route to host")}
				}
				return nil
			}
			l, err := cloud.driver(t).Lock(t.Context(), "Demo", driver.Holder{Who: "a"})
			if err == nil {
				<-l.Lost()
			}
			if took := time.Since(began); took > leaseTime+time.Second {
				t.Errorf("slow for %s: it was known to be lost after %s, %v", slow, took, err)
			}
		})
	}
}

// Who says too late that he has the lock has it no more.
func TestLockLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cloud := newCloud()
		var other driver.Lock
		cloud.fault = func(call string, _ int) *fault {
			if call != "PATCH navvy-lock" || other != nil {
				return nil
			}
			time.Sleep(leaseTime + time.Second) //nolint:forbidigo // in a bubble
			other = noLock()                    // its own call is not late
			l, err := cloud.driver(t).Lock(t.Context(), "Demo", driver.Holder{Who: "b"})
			if err != nil {
				t.Error(err)
				return nil
			}
			other = l
			return nil
		}
		_, err := cloud.driver(t).Lock(t.Context(), "Demo", driver.Holder{Who: "a"})
		if _, held := errors.AsType[*driver.HeldError](err); !held {
			t.Errorf("got %v", err)
		}
		if err := other.Release(t.Context()); err != nil || len(cloud.groups) != 0 {
			t.Errorf("%v, left %v", err, cloud.groups)
		}
	})
}
