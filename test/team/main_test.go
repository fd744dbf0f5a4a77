package team

import (
	"flag"
	"os"
	"testing"

	"github.com/navvy-run/navvy/test/lifetest"
)

// navvy is the binary that dies.
var navvy string

// TestMain builds navvy, and is a command that its tasks run.
func TestMain(m *testing.M) {
	if dir := os.Getenv(taskDir); dir != "" && os.Getenv(tokenVar) != "" {
		os.Exit(task(dir, os.Args[1]))
	}
	_ = flag.Set("test.parallel", "4") // they wait most of the time; the command line may say otherwise
	os.Exit(lifetest.RunWithNavvy(m, func(path string) { navvy = path }))
}
