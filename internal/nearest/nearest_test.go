package nearest

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTo(t *testing.T) {
	t.Parallel()
	words := []string{"count", "concurrency", "cpus", "cpu-shares", "memory", "output-limit", "up_timeout", "pids-limit"}
	for word, want := range map[string]string{
		"conut": "count", "Count": "count", "memroy": "memory", "cpu": "cpu-shares", "pids": "pids-limit",
		"output_limit": "output-limit", "upTimeout": "up_timeout", "uptimeout": "up_timeout", "concurency": "concurrency",
		"": "", "image": "", "c": "", "isolate": "", strings.Repeat("count", 20): "",
	} {
		if got := To(word, words); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	if got := To("count", nil); got != "" {
		t.Errorf("of no words %q is nearest", got)
	}
}
