package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/drivertest"
)

// A map by hand whose answers do not all come, and find the answer to somebody else there,
// gives up, prints those that came, and says which did not and where to look.
func TestByHandPatience(t *testing.T) {
	t.Parallel()
	b := startRedis(t)
	in, out := b.url("in"), b.url("out")
	if _, said, code := run(t, "", "queue", "send", out, "old", "--correlation", "other"); code != 0 {
		t.Fatalf("send: exit code %d: %s", code, said)
	}
	served := make(chan error, 1)
	go func() { served <- answerAllBut(t, b, "b", 3) }()
	printed, said, code := run(t, "", "map", "--queue", in, "--responses", out, "--patience", "5s", "-o", "jsonl", ":::", "a", "b", "c")
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if lines := slices.Collect(strings.Lines(printed)); code != 69 || len(lines) != 2 || !strings.Contains(lines[0], `"re a"`) || !strings.Contains(lines[1], `"re c"`) {
		t.Errorf("map: exit code %d, %q", code, printed)
	}
	for _, want := range []string{"2 of 3 requests are answered, not input 2", "navvy queue dlq '" + in + "' shows requests"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
	// What was printed has left the queue, and what is another's has not.
	if left, said, code := run(t, "", "queue", "recv", out, "-n", "0", "--wait", "15s"); code != 0 || left != "old\n" {
		t.Errorf("left: exit code %d, %q: %s", code, left, said)
	}
}

// answerAllBut answers so many requests, but for those of one text.
func answerAllBut(t *testing.T, b *broker, but string, n int) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var queues [2]*queue.Queue
	for i, name := range []string{"in", "out"} {
		q, err := queue.Open(ctx, b.url(name), b.drivers, nil)
		if err != nil {
			return err
		}
		defer q.Close(context.Background()) //nolint:errcheck // all is settled by then
		queues[i] = q
	}
	for n > 0 {
		leases, err := queues[0].Receive(ctx, n)
		if err != nil {
			return err
		}
		for _, l := range leases {
			n--
			if string(drivertest.Body(t, l)) != but {
				if err := queues[1].Send(ctx, queue.Message{Correlation: l.ID(), Body: append([]byte("re "), drivertest.Body(t, l)...)}); err != nil {
					return err
				}
			}
			if err := l.Ack(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
