package holder

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

func testFind(t *testing.T, c *client.Client) {
	id := submit(t, c, navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
	if got, err := c.Find(t.Context(), string(id[:3])); got != id || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	// 33 ids cannot begin with 32 characters.
	first := map[byte]bool{id[0]: true}
	for range 32 {
		id := submit(t, c, navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x")
		if first[id[0]] {
			_, err := c.Find(t.Context(), string(id[:1]))
			if !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "fits several jobs") || !strings.Contains(err.Error(), "["+string(id[0])) {
				t.Errorf("%v", err)
			}
			return
		}
		first[id[0]] = true
	}
	t.Error("no two ids begin alike")
}

func testPages(t *testing.T, c *client.Client) {
	var want []navvy.JobID
	for range 205 { // three pages
		want = append(want, submit(t, c, navvy.Job{Detached: true, Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "x"))
	}
	slices.Reverse(want)
	var got []navvy.JobID
	for job, err := range c.Jobs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, job.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func testPrinted(t *testing.T, c *client.Client) {
	id := submit(t, c, navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}, "a", "b", "c")
	if _, err := c.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint32{1, 0} {
		b, err := roaring.BitmapOf(index).ToBytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Printed(t.Context(), id, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, asCompleted := range []bool{false, true} {
		if got := texts(t, c, id, client.ResultsOptions{Unprinted: true, AsCompleted: asCompleted}); len(got) != 1 || !strings.HasPrefix(got[0], "2 ") {
			t.Errorf("%q", got)
		}
	}
	if err := c.Printed(t.Context(), id, []byte("no bitmap")); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// Answers come in the order of the inputs, or as they come, and while they come.
func testOrder(t *testing.T, c *client.Client) {
	gate := t.TempDir() + "/gate"
	id := submit(t, c, navvy.Job{Parallelism: 2, Spec: shell(`test "${1#0}" != "$1" && until test -e ` + gate + `; do sleep 0.01; done; echo $1`)}, "0", "1", "2")
	var got []int64
	for a, err := range c.Results(t.Context(), id, client.ResultsOptions{Follow: true, AsCompleted: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, a.Task.Index); len(got) == 2 {
			touch(t, gate)
		}
	}
	if !slices.Equal(got, []int64{1, 2, 0}) {
		t.Errorf("as completed: %v", got)
	}
	if got := texts(t, c, id, client.ResultsOptions{Follow: true}); !slices.IsSortedFunc(got, strings.Compare) || len(got) != 3 {
		t.Errorf("%q", got)
	}
}

func testOutput(t *testing.T, c *client.Client) {
	id := submit(t, c, navvy.Job{Spec: shell(`seq $1; seq 3 >&2`)}, "5", "100000")
	if _, err := c.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, attempts := read(t, c, navvy.TaskID{Job: id}, client.OutputOptions{})
	if string(stdout) != "1\n2\n3\n4\n5\n" || string(stderr) != "1\n2\n3\n" || attempts != 1 {
		t.Errorf("%q, %q, %d", stdout, stderr, attempts)
	}
	long := navvy.TaskID{Job: id, Index: 1}
	task, err := c.Task(t.Context(), long)
	if err != nil || !task.Result.Output.Logged || task.Result.Output.Stdout != 588895 {
		t.Fatalf("%+v, %v", task, err)
	}
	for _, o := range []client.OutputOptions{{}, {Follow: true}, {Attempt: task.Result.ID}} {
		stdout, stderr, _ := read(t, c, long, o)
		if len(stdout) != 588895 || !bytes.HasSuffix(stdout, []byte("\n100000\n")) || string(stderr) != "1\n2\n3\n" {
			t.Errorf("%+v: %d bytes, %q", o, len(stdout), stderr)
		}
	}
	testOutputErrors(t, c, long)
}

func testOutputErrors(t *testing.T, c *client.Client, long navvy.TaskID) {
	t.Helper()
	// The reader's own error comes back, and ends the reading.
	full := errors.New("full")
	if err := c.Output(t.Context(), long, client.OutputOptions{}, client.OutputSink{Write: func(output.Stream, []byte) error { return full }}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	for name, bad := range map[string]client.OutputOptions{"attempt": {Attempt: navvy.AttemptID{Number: 9, Epoch: 9}}} {
		if err := c.Output(t.Context(), long, bad, client.OutputSink{}); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Output(t.Context(), navvy.TaskID{Job: long.Job, Index: 2}, client.OutputOptions{}, client.OutputSink{}); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// What a task writes is there at once: for who was there before it began, and
// for who looks on from the middle.
func testLiveOutput(t *testing.T, c *client.Client) {
	gate := t.TempDir() + "/gate"
	id := submit(t, c, navvy.Job{Spec: shell(`echo early; until test -e ` + gate + `; do sleep 0.01; done; echo late`)}, "")
	task := navvy.TaskID{Job: id}
	var got bytes.Buffer
	err := c.Output(t.Context(), task, client.OutputOptions{Follow: true}, client.OutputSink{
		Write: func(_ output.Stream, p []byte) error {
			got.Write(p)
			return nil
		},
		Flush: func() error {
			if got.String() != "early\n" {
				return nil
			}
			// Who does not follow gets what there is, and need not wait.
			if now, _, _ := read(t, c, task, client.OutputOptions{}); string(now) != "early\n" {
				t.Errorf("by now: %q", now)
			}
			touch(t, gate)
			return nil
		},
	})
	if err != nil || got.String() != "early\nlate\n" {
		t.Errorf("%q, %v", got.String(), err)
	}
}

func testTask(t *testing.T, c *client.Client) {
	id := submit(t, c, navvy.Job{Parallelism: 1, Format: navvy.InputFields, Spec: shell("exec sleep 100")}, string(navvy.AppendFields(nil, "a", "b")), "")
	awaitStatus(t, c, id, func(st *navvy.Status) bool { return st.Counts.Running == 1 })
	task, err := c.Task(t.Context(), navvy.TaskID{Job: id})
	if err != nil || task.State != navvy.Running || task.Running == nil || task.Running.Slot != 1 || task.Running.Worker == "" || task.Result != nil {
		t.Errorf("%+v, %v", task, err)
	}
	if fields, err := navvy.InputFields.Fields(task.Input); err != nil || !slices.Equal(fields, []string{"a", "b"}) {
		t.Errorf("%q, %v", fields, err)
	}
	task, err = c.Task(t.Context(), navvy.TaskID{Job: id, Index: 1})
	if err != nil || task.State != navvy.Queued || task.Waiting == "" || len(task.Input) != 0 {
		t.Errorf("%+v, %v", task, err)
	}
	if _, err := c.Stop(t.Context(), id, ""); err != nil {
		t.Error(err)
	}
}

func testErrors(t *testing.T, c *client.Client) {
	const none = navvy.JobID("zzzzzzzzzzzz")
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"get":    func() error { _, err := c.Get(ctx, none); return err },
		"find":   func() error { _, err := c.Find(ctx, "zz"); return err },
		"hold":   func() error { return c.Hold(ctx, none, "", false) },
		"stop":   func() error { _, err := c.Stop(ctx, none, ""); return err },
		"retry":  func() error { _, _, err := c.Retry(ctx, none, client.RetryOptions{}); return err },
		"remove": func() error { return c.Remove(ctx, none, true) },
		"wait":   func() error { _, err := c.Wait(ctx, none); return err },
		"task":   func() error { _, err := c.Task(ctx, navvy.TaskID{Job: none}); return err },
		"print":  func() error { return c.Printed(ctx, none, nil) },
		"output": func() error {
			return c.Output(ctx, navvy.TaskID{Job: none}, client.OutputOptions{}, client.OutputSink{})
		},
		"resume": func() (err error) {
			for _, err = range c.Resume(ctx, none, client.ResumeOptions{Attach: true}) {
			}
			return err
		},
		"results": func() (err error) {
			for _, err = range c.Results(ctx, none, client.ResultsOptions{}) {
			}
			return err
		},
	} {
		if err := call(); !errors.Is(err, navvy.ErrNotFound) || !strings.Contains(err.Error(), "zz") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []navvy.JobID{"", "UPPER", "much too long for an id", "\xff"} {
		if _, err := c.Find(ctx, string(id)); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
	id := submit(t, c, navvy.Job{Spec: command("true")}, "")
	for _, err := range c.Results(ctx, id, client.ResultsOptions{From: -1}) {
		if !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}

// Bytes that are no UTF-8 travel: inputs, arguments, directories, columns; in
// what is for people they are replaced.
func testBytes(t *testing.T, c *client.Client) {
	spec := command("/nosuch\xff", "a\xff")
	spec.Command.Columns, spec.Command.Dir, spec.Command.Env = []string{"\xff"}, "/\xff", []string{"A=\xff"}
	id := submit(t, c, navvy.Job{Spec: spec}, "\xff\x00")
	if _, err := c.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	job, err := c.Get(t.Context(), id)
	if diff := cmp.Diff(spec, job.Spec); diff != "" || err != nil {
		t.Errorf("%s%v", diff, err)
	}
	task, err := c.Task(t.Context(), navvy.TaskID{Job: id})
	if err != nil || string(task.Input) != "\xff\x00" || task.Result == nil || task.Result.State != navvy.Failed || task.Result.Message == "" {
		t.Errorf("%+v, %v", task, err)
	}
}
