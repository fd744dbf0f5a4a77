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

// Close does not wait for what cannot be done.
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
		if took := time.Since(begun); took != 5*time.Second || !slices.Equal(l.done, []string{"first"}) {
			t.Errorf("after %s done were %v", took, l.done)
		}
	})
}
