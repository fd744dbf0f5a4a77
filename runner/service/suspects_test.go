package service_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/navvy-run/navvy/runner/service"
)

// TestSuspects has a service die of one request while it works on others: these are answered
// all the same, since each is tried once more, alone, and the one is to blame.
func TestSuspects(t *testing.T) {
	t.Parallel()
	for form, actor := range map[string]string{"lines-json": "lines-json", "grpc-cmd": "sdk"} {
		for how, what := range map[string]string{"dies": "die", "garbage": "garbage"} {
			if form == "grpc-cmd" && how == "garbage" {
				continue // which gRPC does not let through
			}
			t.Run(form+" "+how, func(t *testing.T) {
				t.Parallel()
				dir, word := t.TempDir(), ""
				if actor == "sdk" {
					word = "do "
				}
				s := opened(t, form+":"+self(t), service.Options{Env: acting(actor), Dir: dir, Concurrency: 10})
				var all sync.WaitGroup
				const innocent = 8
				for i := range innocent {
					all.Go(func() { // where it does not answer the test ends
						if got := ask(t, s, fmt.Sprint(word, "once ", i)); got != fmt.Sprint("once ", i) && got != fmt.Sprint(word, "once ", i) {
							t.Errorf("%d: %q", i, got)
						}
					})
				}
				for i := range innocent {
					until(t, exists(filepath.Join(dir, fmt.Sprint("once", i))))
				}
				says := map[string]string{"lines-json dies": "I die, during the request", "lines-json garbage": "no answer", "grpc-cmd dies": "lost during the request"}[form+" "+how]
				fails(t, s, word+what, says)
				all.Wait()
				ask(t, s, "x")
			})
		}
	}
}
