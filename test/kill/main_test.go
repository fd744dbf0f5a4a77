package kill

import (
	"os"
	"testing"
	"time"

	"github.com/navvy-run/navvy/test/lifetest"
)

// navvy is the binary that is killed.
var navvy string

// TestMain builds navvy, and is the command that navvy runs.
func TestMain(m *testing.M) {
	if dir := os.Getenv(taskDir); dir != "" {
		os.Exit(task(dir, os.Args[1]))
	}
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvy = path }))
}

// TestPromises kills navvy again and again, as long as there is time: see package
// lifetest. A failure prints its seed. The same seed in NAVVY_SEED makes the same
// choices, and meets them with other timing: it may take some lives to fail again.
func TestPromises(t *testing.T) {
	lifetest.Run(t, 8*time.Second, func(t *testing.T, seed uint64) {
		l := newLife(t, seed, breaks{})
		if l.run(); l.bad != nil {
			t.Fatalf("%s\n%v\nto repeat: NAVVY_SEED=%d go test ./test/kill -run TestPromises", l.told(), l.bad, seed)
		}
	})
}

// TestBrokenPromises breaks promises on purpose, and sees that a life says so.
func TestBrokenPromises(t *testing.T) {
	for _, broken := range []struct {
		what string
		breaks
		want error
	}{
		{"the worker forgets what it has started", breaks{forgetJournal: true}, errOverlap},
		{"the disk goes back to an earlier state", breaks{oldDisk: true}, errLost},
		{"an answer is not printed", breaks{printed: leaveOut}, errPrinted},
		{"an answer is printed twice", breaks{printed: double}, errPrinted},
		{"output is not what was written", breaks{result: misquote}, errOutput},
		{"a private directory is left", breaks{forgetDir: true}, errLeft},
	} {
		t.Run(broken.what, func(t *testing.T) {
			t.Parallel()
			var said []error
			for seed := range uint64(20) {
				l := newLife(t, seed, broken.breaks)
				l.run()
				if said = append(said, l.bad); l.broke(broken.want) {
					t.Log(l.bad)
					return
				}
			}
			t.Errorf("nobody says so; what was said: %v", said)
		})
	}
}
