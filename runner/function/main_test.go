package function_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/driver/drivertest"
	"github.com/navvy-run/navvy/runner/function"
	"github.com/navvy-run/navvy/runner/process"
	"github.com/navvy-run/navvy/runner/process/cgroup"
)

func TestMain(m *testing.M) {
	// In a group that was delegated to us we step aside before our children are there.
	_ = cgroup.Open(&cgroup.Options{Name: "navvy-test-main-" + strconv.Itoa(os.Getpid())}).Close()
	goleak.VerifyTestMain(m)
}

// python is the interpreter of the tests: Debian's, which has dill and cloudpickle.
const python = pythontest.Python

// open returns a driver whose hosts have no control groups.
func open(t testing.TB, o function.Options) *function.Driver {
	t.Helper()
	return openOn(t, o, process.Options{})
}

// openOn returns a driver on processes with these options.
func openOn(t testing.TB, o function.Options, p process.Options) *function.Driver {
	t.Helper()
	pythontest.Need(t)
	p.Work = filepath.Join(t.TempDir(), "work")
	processes := process.NewDriver(&p)
	o.Python, o.Processes = cmp.Or(o.Python, python), processes
	d := function.New(&o)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := processes.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

var tasks atomic.Int64

// source is a function as the text of a file with a function f.
func source(text string) *navvy.FunctionVersion {
	return &navvy.FunctionVersion{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", tasks.Add(1)), Owner: "me", Name: "f", Version: 1,
		Form: navvy.FormSource, Code: []byte(text), Entry: "f",
	}
}

// attempt is one call of a test.
type attempt struct {
	driver.Task
	execution       driver.Execution
	out, err, value bytes.Buffer
}

// calling prepares a call with JSON.
func calling(f *navvy.FunctionVersion, input string) *attempt {
	a := &attempt{}
	index := tasks.Add(1)
	a.Task = driver.Task{
		ID: navvy.TaskID{Job: "0123456789ab", Index: index}, Attempt: navvy.AttemptID{Number: 1, Epoch: 1},
		Token: fmt.Sprintf("test-%d-%d", os.Getpid(), index), Slot: 1, Owner: f.Owner, Input: []byte(input),
		Spec:     &navvy.Spec{Function: &navvy.Function{ID: f.ID, Name: f.Name, Version: f.Version, Encoding: navvy.EncodingJSON}},
		Function: func(context.Context) (*navvy.FunctionVersion, error) { return f, nil },
	}
	a.Stdout, a.Stderr, a.Value = &a.out, &a.err, &a.value
	return a
}

func (a *attempt) start(t testing.TB, d driver.Driver) {
	t.Helper()
	x, err := d.Start(t.Context(), &a.Task)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	a.execution = x
}

func (a *attempt) wait(t testing.TB) driver.End {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), drivertest.Patience)
	defer cancel()
	end, err := a.execution.Wait(ctx)
	if err != nil {
		_ = a.execution.Stop(context.Background(), true)
		t.Fatalf("wait: %v", err)
	}
	return end
}

// run makes a call to its end.
func run(t testing.TB, d driver.Driver, a *attempt) driver.End {
	t.Helper()
	a.start(t, d)
	return a.wait(t)
}

// call calls the f of a source with JSON arguments.
func call(t testing.TB, d driver.Driver, text, args string) (*attempt, driver.End) {
	t.Helper()
	a := calling(source(text), `{"args": [`+args+`]}`)
	return a, run(t, d, a)
}

// refused is the message of an end, which must have this reason.
func refused(t testing.TB, end driver.End, reason navvy.Reason) string {
	t.Helper()
	if end.Refusal == nil || end.Refusal.Reason != reason {
		t.Fatalf("ended as %+v with %+v, want reason %s", end, end.Refusal, reason)
	}
	return end.Refusal.Message
}
