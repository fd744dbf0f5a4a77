package local_test

import "testing"

// What goes through a queue is told, as long as it is not long ago.
func TestRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := echoes("rate", 1)
	w.apply(c)
	rate := func() float64 {
		g, err := w.Gauge(w.ctx(), c.Name)
		if err != nil || len(g.Queues) != 1 {
			t.Fatalf("%+v, %v", g, err)
		}
		return g.Queues[0].Rate
	}
	if got := rate(); got != 0 {
		t.Errorf("before the first request it is %v", got)
	}
	w.eventually("what is answered is seen", func() bool {
		w.answers(c.Name, "requests", "1", "2", "3", "4", "5")
		got := rate()
		return got >= 5.0/11 && got <= 1000
	})
}
