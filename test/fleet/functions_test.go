package fleet

import (
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/internal/pythontest"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/output"
)

// python calls the functions of these tests.
const python = pythontest.Python

// register registers the f of a source, and gives a job that calls it with JSON.
func (s *site) register(c *client.Client, text string) navvy.Job {
	s.Helper()
	pythontest.Need(s)
	f, err := c.Register(s.Context(), &navvy.FunctionVersion{Name: "f", Form: navvy.FormSource, Code: []byte(text), Entry: "f"})
	s.must(err)
	return navvy.Job{Detached: true, Spec: navvy.Spec{
		Function: &navvy.Function{ID: f.ID, Name: f.Name, Version: f.Version, Encoding: navvy.EncodingJSON},
	}}
}

// streams are what an attempt wrote, by stream.
func (s *site) streams(c *client.Client, task navvy.TaskID) map[output.Stream]string {
	s.Helper()
	wrote := make(map[output.Stream]string)
	s.must(c.Output(s.Context(), task, client.OutputOptions{}, client.OutputSink{Write: func(stream output.Stream, p []byte) error {
		wrote[stream] += string(p)
		return nil
	}}))
	return wrote
}

// A function's value comes back, short or long, and so do its exception and its output.
func TestFunctionValues(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	s.hire("w1", t.TempDir(), 2)
	c := client.New(s.dial())
	job := s.register(c, "def f(n):\n  print('out', n)\n  if n < 0: raise ValueError('too low')\n  return 'x' * n")
	for input, want := range map[string]struct {
		state   navvy.State
		reason  navvy.Reason
		message string
		value   string // how it begins
		size    int
	}{
		"3":       {state: navvy.Succeeded, value: `"xxx"`, size: 5},
		"3000000": {state: navvy.Succeeded, value: `"xxx`, size: 3000002},
		"-1":      {navvy.Failed, navvy.ReasonException, "ValueError: too low", `{"type": "ValueError", "message": "too low"`, 0},
	} {
		r, err := c.Run(t.Context(), job, []byte(`{"args": [`+input+`]}`))
		s.must(err)
		wrote := s.streams(c, r.Task)
		value := wrote[output.Value]
		if r.State != want.state || r.Reason != want.reason || r.Message != want.message {
			t.Errorf("%s: %+v", input, r)
		}
		if !strings.HasPrefix(value, want.value) || want.size > 0 && len(value) != want.size || wrote[output.Stdout] != "out "+input+"\n" {
			t.Errorf("%s: the value has %d bytes and begins with %.100q, output %q", input, len(value), value, wrote[output.Stdout])
		}
	}
}

// A worker that is killed in mid-call loses the call to another one.
func TestFunctionElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	first := s.hire("w1", t.TempDir(), 1)
	c := client.New(s.dial())
	path, open := gate(t)
	job := s.register(c, "import os, time\ndef f():\n  open('"+path+".begun', 'w').write('x')\n  while not os.path.exists('"+path+"'): time.sleep(0.01)\n  return os.environ['NAVVY_ATTEMPT']")
	type answer struct {
		navvy.Result
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		r, err := c.Run(t.Context(), job, []byte("{}"))
		answered <- answer{r, err}
	}()
	awaitFile(t, path+".begun")
	_ = first.stop()
	open()
	s.hire("w2", t.TempDir(), 1)
	a := <-answered
	s.must(a.err)
	if value := s.streams(c, a.Task)[output.Value]; a.State != navvy.Succeeded || a.Worker != "w2" || value != `"2"` {
		t.Errorf("%+v with value %q", a.Result, value)
	}
}

// A host that dies in mid-call fails the call, and says how, unless it is to be tried again.
func TestFunctionHostDies(t *testing.T) {
	t.Parallel()
	s := newSite(t, manager.Options{Dispatch: manager.Push, Parallelism: 8})
	s.hire("w1", t.TempDir(), 1)
	c := client.New(s.dial())
	job := s.register(c, "import os\ndef f(how):\n  if os.environ['NAVVY_ATTEMPT'] == '1': eval(how)\n  return 1")
	for how, want := range map[string]string{
		"os.kill(os.getpid(), 9)": "worker process died: signal 9",
		"os._exit(3)":             "worker process died: exit code 3",
		"os._exit(0)":             "worker process died: exit code 0",
	} {
		r, err := c.Run(t.Context(), job, []byte(`{"args": ["`+how+`"]}`))
		s.must(err)
		if r.State != navvy.Failed || r.Message != want {
			t.Errorf("%s: %+v", how, r)
		}
		again := job
		again.Spec.Retry = navvy.Retry{Max: 1, Backoff: 1}
		r, err = c.Run(t.Context(), again, []byte(`{"args": ["`+how+`"]}`))
		s.must(err)
		if r.State != navvy.Succeeded || r.Attempts != 2 {
			t.Errorf("%s, tried again: %+v", how, r)
		}
	}
}
