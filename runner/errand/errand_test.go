package errand_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/runner/errand"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var pauses = pause.Series{First: time.Second, Longest: 4 * time.Second}

// log notes what is done.
type log struct {
	mu          sync.Mutex
	done        []string
	fails       map[string]int // how often
	busy, worst int
	takes       time.Duration
}

func (l *log) do(ctx context.Context, key string) error {
	l.mu.Lock()
	l.busy++
	l.worst = max(l.worst, l.busy)
	l.mu.Unlock()
	err := pause.For(ctx, l.takes)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	if l.fails[key]--; l.fails[key] >= 0 {
		return errors.New("not yet")
	}
	if err == nil {
		l.done = append(l.done, key)
	}
	return err
}

// All errands are done, those that fail as often as it takes, and never too many at once.
func TestAllDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &log{fails: map[string]int{"3": 4, "5": 1}, takes: time.Second}
		q := errand.New(2, pauses, l.do)
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
			q.Add(want[i])
		}
		q.Close(time.Hour)
		q.Add("late")
		synctest.Wait()
		slices.Sort(want)
		slices.Sort(l.done)
		if !slices.Equal(l.done, want) || l.worst != 2 {
			t.Errorf("done were %v, %d at once", l.done, l.worst)
		}
	})
}

// Close does not wait for what cannot be done, nor does what comes behind it.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &log{fails: map[string]int{"never": 1_000_000}}
		q := errand.New(1, pauses, l.do)
		for _, key := range []string{"first", "never", "behind it"} {
			q.Add(key)
		}
		begun := time.Now()
		q.Close(5 * time.Second)
		if took := time.Since(begun); took != 5*time.Second || !slices.Equal(l.done, []string{"first", "behind it"}) {
			t.Errorf("after %s done were %v", took, l.done)
		}
	})
}

// What fails again and again keeps nothing else from being done, however many fail.
func TestFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &log{fails: map[string]int{"a": 1_000_000, "b": 1_000_000, "c": 1_000_000}}
		q := errand.New(2, pauses, l.do)
		for _, key := range []string{"a", "b", "c", "good"} {
			q.Add(key)
		}
		synctest.Wait()
		if !slices.Equal(l.done, []string{"good"}) {
			t.Errorf("done were %v", l.done)
		}
		q.Close(time.Minute)
		if l.fails["a"] > 1_000_000-15 || l.worst > 2 {
			t.Errorf("it was tried %d times, %d at once", 1_000_000-l.fails["a"], l.worst)
		}
	})
}
