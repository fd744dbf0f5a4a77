package process_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

// envEat makes the test binary, started again, use so many bytes of memory and exit.
const envEat = "NAVVY_TEST_EAT"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(envEat)); err == nil {
		eaten := make([]byte, n)
		for i := 0; i < n; i += 4096 {
			eaten[i] = 1
		}
		os.Exit(int(eaten[0]) - 1)
	}
	if do := alone[os.Getenv(envAlone)]; do != nil {
		if err := do(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// In a group that was delegated to us we step aside before our children are there.
	_ = cgroup.Open(&cgroup.Options{Name: "navvy-test-main-" + strconv.Itoa(os.Getpid())}).Close()
	goleak.VerifyTestMain(m)
}

// run runs a process to its end.
func run(t *testing.T, c *process.Config) driver.End {
	t.Helper()
	p, err := process.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	return wait(t, p)
}

func wait(t *testing.T, p *process.Process) driver.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	end, err := p.Wait(ctx)
	if err != nil {
		_ = p.Stop(true)
		t.Fatal(err)
	}
	return end
}

// script is the configuration of a shell script.
func script(line string) *process.Config {
	return &process.Config{Args: []string{"/bin/sh", "-c", line}, Env: []string{path}}
}
