package manager

import (
	"math"
	"testing"
	"time"
)

// The rate is that of the last ten seconds, whatever was before, and whatever the clock does.
func TestLately(t *testing.T) {
	t.Parallel()
	var l lately
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := func(now time.Time, rate float64) {
		t.Helper()
		if got := l.perSecond(now); math.Abs(got-rate) > 1e-9 {
			t.Errorf("after %s it is %v, want %v", now.Sub(start), got, rate)
		}
	}
	want(start, 0)
	for i := range 1000 { // 20 a second, for 50 s
		l.add(start.Add(time.Duration(i) * 50 * time.Millisecond))
	}
	end := start.Add(50 * time.Second)
	want(end, 20)
	want(end.Add(4*time.Second), 12)
	want(end.Add(4*time.Second+500*time.Millisecond), 120/10.5)
	want(end.Add(3*time.Second), 120.0/10) // set back a little: it stays at the later second
	want(end.Add(20*time.Second), 0)
	l.add(end.Add(20 * time.Second))
	want(end.Add(20*time.Second), 0.1)
	want(start.Add(-time.Hour), 0) // set back by far
	l.add(start.Add(-time.Hour))
	want(start.Add(-time.Hour), 0.1)
}
