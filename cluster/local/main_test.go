package local_test

import (
	"os"
	"testing"

	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
	"github.com/navvy-run/navvy/test/lifetest"
)

// navvyBinary is the program that the tests' servers, workers and supervisors run.
var navvyBinary string

func TestMain(m *testing.M) {
	natstest.Serve()
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvyBinary = path }))
}
