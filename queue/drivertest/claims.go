package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue"
)

// Shelf is a place for large bodies in memory. The zero value is ready.
type Shelf struct {
	// Name is its Place. Defaults to "a shelf".
	Name string
	// Fail is asked before each call, of put, get or remove; nil for no failures.
	Fail func(verb, name string) error

	mu     sync.Mutex
	bodies map[string][]byte
}

// Place implements queue.Claims.
func (s *Shelf) Place() string {
	if s.Name == "" {
		return "a shelf"
	}
	return s.Name
}

func (s *Shelf) fail(verb, name string) error {
	if s.Fail == nil {
		return nil
	}
	return s.Fail(verb, name)
}

// Put implements queue.Claims.
func (s *Shelf) Put(_ context.Context, name string, body []byte) error {
	if err := s.fail("put", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bodies == nil {
		s.bodies = map[string][]byte{}
	}
	s.bodies[name] = bytes.Clone(body)
	return nil
}

// Get implements queue.Claims.
func (s *Shelf) Get(_ context.Context, name string, most int) ([]byte, error) {
	if err := s.fail("get", name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.bodies[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("there is no %s: %w", name, navvy.ErrNotFound)
	case len(body) > most:
		return nil, fmt.Errorf("%s has %d bytes: %w", name, len(body), navvy.ErrCorrupt)
	}
	return bytes.Clone(body), nil
}

// Remove implements queue.Claims.
func (s *Shelf) Remove(_ context.Context, name string) error {
	if err := s.fail("remove", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.bodies[name]; !ok {
		return fmt.Errorf("there is no %s: %w", name, navvy.ErrNotFound)
	}
	delete(s.bodies, name)
	return nil
}

// Names are the names of the bodies that are there.
func (s *Shelf) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.bodies))
}

// testClaims sends a body that does not fit, or that must not be with the broker: it comes
// as it was sent each time, also from the dead letters, and goes with the last message.
func testClaims(t *testing.T, h *Harness) {
	shelf := &Shelf{}
	o := &queue.Options{Claims: shelf, Lease: 30 * time.Second}
	size := h.Want.MaxBody + 1
	if h.Want.MaxBody > 4<<20 {
		o.ClaimOver, size = 4<<10, 1<<20
	}
	url := h.URL(t)
	q := h.open(t, option(t, url, "envelope", "json"), o)
	if got := q.Capabilities().MaxBody; got < queue.MaxClaim {
		t.Errorf("bodies of up to %d bytes", got)
	}
	body := bytes.Repeat([]byte("claim\x00\xff\r\n"), size/9+1)
	send(t, q, queue.Message{ID: "large", Correlation: "request", Body: body}, queue.Message{ID: "small", Body: []byte("small")})
	if n := len(shelf.Names()); n != 1 {
		t.Fatalf("%d bodies lie elsewhere", n)
	}
	var large *queue.Lease
	for range 2 {
		switch l := receive(t, q); l.ID() {
		case "small":
			ack(t, l)
		case "large":
			large = l
		}
	}
	check := func(l *queue.Lease) {
		t.Helper()
		if got := Body(t, l); !bytes.Equal(got, body) || l.ID() != "large" || l.Correlation() != "request" {
			t.Fatalf("%d bytes came as %d, id %q, correlation %q", len(body), len(got), l.ID(), l.Correlation())
		}
	}
	check(large)
	if err := large.Nack(within(t), 0); err != nil {
		t.Fatal(err)
	}
	again := receive(t, q)
	check(again)
	if err := again.DeadLetter(within(t), "to see it there"); err != nil {
		t.Fatal(err)
	}
	dead := h.open(t, option(t, h.dead(t, url), "envelope", "json"), o)
	l := receive(t, dead)
	check(l)
	ack(t, l)
	shelf.await(t) // where nobody confirms it a while later
}

// await waits until all bodies are removed.
func (s *Shelf) await(t *testing.T) {
	t.Helper()
	tick, ctx := time.NewTicker(10*time.Millisecond), within(t)
	defer tick.Stop()
	for len(s.Names()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("what is left of messages that are gone: %q", s.Names())
		}
	}
}
