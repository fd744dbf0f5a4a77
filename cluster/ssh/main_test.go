package ssh_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/queue/natsqueue/natstest"
	"github.com/navvy-run/navvy/test/lifetest"
)

// navvyBinary is the program that the tests copy to their hosts.
var navvyBinary string

func TestMain(m *testing.M) {
	if slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "-test.fuzz") }) {
		os.Exit(m.Run()) // its many processes want no navvy
	}
	natstest.Serve()
	code := lifetest.RunWithNavvy(m, func(path string) { navvyBinary = path })
	if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/navvy-run/navvy/cluster/unit.(*Supervised).start.func1")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
