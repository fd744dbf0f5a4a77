package holder

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
)

func testAnswers(t *testing.T, c *client.Client) {
	id, sub := attach(t, c, navvy.Job{Name: "ünï", Spec: shell(`echo "out $1"; echo err >&2; test "$1" != b`)}, "a", "b", "c")
	st := last(t, sub.Progress(t.Context()))
	if want := (navvy.Counts{Succeeded: 2, Failed: 1}); st.Counts != want || st.State() != navvy.Failed || st.Finished.IsZero() {
		t.Errorf("%+v", st)
	}
	want := []string{`0 succeeded a "out a\n" "err\n"`, `1 failed b "out b\n" "err\n"`, `2 succeeded c "out c\n" "err\n"`}
	if diff := cmp.Diff(want, texts(t, c, id, client.ResultsOptions{Inputs: true, Follow: true})); diff != "" {
		t.Error(diff)
	}
	if got := texts(t, c, id, client.ResultsOptions{Failed: true}); len(got) != 1 || !strings.HasPrefix(got[0], "1 failed") {
		t.Errorf("failed: %q", got)
	}
	if got := texts(t, c, id, client.ResultsOptions{From: 1, Limit: 1}); len(got) != 1 || !strings.HasPrefix(got[0], "1 ") {
		t.Errorf("one: %q", got)
	}
	testRead(t, c, id)
}

// testRead looks at the job of testAnswers.
func testRead(t *testing.T, c *client.Client, id navvy.JobID) {
	t.Helper()
	job, err := c.Get(t.Context(), id)
	if err != nil || job.Name != "ünï" || job.Owner != "tester" || job.Queue != navvy.DefaultQueue || job.Accepted.IsZero() || job.Status.Read {
		t.Errorf("%+v, %v", job, err)
	}
	texts(t, c, id, client.ResultsOptions{MarkRead: true})
	if job, err := c.Get(t.Context(), id); err != nil || !job.Status.Read {
		t.Errorf("it was read: %+v, %v", job.Status, err)
	}
}

// stream begins a job to which more inputs come than these, and stays with it
// until the test ends.
func stream(t *testing.T, c *client.Client, job navvy.Job, list ...string) (navvy.JobID, *client.Submission) {
	t.Helper()
	sub, err := c.Submit(t.Context(), job, client.SubmitOptions{Stream: true, Progress: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	if err := sub.Send(inputs(list...)); err != nil {
		t.Fatal(err)
	}
	id, _, err := sub.Accepted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id, sub
}

// A stream runs tasks while inputs come, and tells of its progress meanwhile.
func testStream(t *testing.T, c *client.Client) {
	id, sub := stream(t, c, navvy.Job{Spec: shell("echo $1")}, "a", "b")
	for st, err := range sub.Progress(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !st.Open {
			t.Fatal("it is closed before the seal")
		}
		if st.Counts.Succeeded == 2 {
			break
		}
	}
	if err := errors.Join(sub.Send(inputs("c")), sub.Seal()); err != nil {
		t.Fatal(err)
	}
	if st := last(t, sub.Progress(t.Context())); st.Open || st.Counts.Succeeded != 3 {
		t.Errorf("%+v", st)
	}
	if got := texts(t, c, id, client.ResultsOptions{Follow: true}); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// A stream that is cut keeps what was sent; its job is held, and goes on to there.
func testCut(t *testing.T, c *client.Client) {
	id, sub := stream(t, c, navvy.Job{Parallelism: 1, Spec: shell("echo $1")}, "a", "b")
	if err := sub.Cut(); err != nil {
		t.Fatal(err)
	}
	if st := last(t, sub.Progress(t.Context())); !st.Cut || st.Open || st.Counts.Total() != 2 || !strings.Contains(st.Why, "after 2 inputs") {
		t.Errorf("%+v", st)
	}
	if st := last(t, c.Resume(t.Context(), id, client.ResumeOptions{Attach: true})); !st.Cut || st.Counts.Succeeded != 2 {
		t.Errorf("%+v", st)
	}
}

// What is given up leaves nothing, or as a stream a stopped job.
func testAbort(t *testing.T, c *client.Client) {
	for _, stream := range []bool{false, true} {
		sub, err := c.Submit(t.Context(), navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}}, client.SubmitOptions{Stream: stream})
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.Send(inputs("a")); err != nil {
			t.Fatal(err)
		}
		if stream {
			if _, _, err := sub.Accepted(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		sub.Abort("line 2 is wrong")
		jobs := 0
		for job, err := range c.Jobs(t.Context()) {
			if jobs++; err != nil || !job.Status.Cut || job.Status.Why != "line 2 is wrong" || job.Status.Open {
				t.Errorf("%+v, %v", job.Status, err)
			}
		}
		if want := map[bool]int{true: 1}[stream]; jobs != want {
			t.Errorf("stream %v: %d jobs are left", stream, jobs)
		}
	}
}

// What makes no sense is refused before any input is taken.
func testRefused(t *testing.T, c *client.Client) {
	for name, job := range map[string]navvy.Job{
		"no spec":    {},
		"long name":  {Name: strings.Repeat("x", navvy.MaxJobName+1), Spec: command("true")},
		"bad name":   {Name: "\xff", Spec: command("true")},
		"bad key":    {IdempotencyKey: "\xff", Spec: command("true")},
		"zero byte":  {Spec: command("a\x00b")},
		"bad number": {Parallelism: -1, Spec: command("true")},
		"bad limit":  {MaxFails: &navvy.MaxFails{Percent: 101}, Spec: command("true")},
	} {
		if _, err := c.Submit(t.Context(), job, client.SubmitOptions{}); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Submit(t.Context(), navvy.Job{Shuffle: 1, Spec: command("true")}, client.SubmitOptions{Stream: true}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a shuffled stream: %v", err)
	}
	sub, err := c.Submit(t.Context(), navvy.Job{Spec: command("true")}, client.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := sub.Seal(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sub.Accepted(t.Context()); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "there is no input") {
		t.Errorf("no input: %v", err)
	}
	for job, err := range c.Jobs(t.Context()) {
		t.Errorf("there is a job: %v, %v", job, err)
	}
}

func testKey(t *testing.T, c *client.Client) {
	job := navvy.Job{IdempotencyKey: "k", Spec: shell("echo $1")}
	first := submit(t, c, job, "a")
	sub, err := c.Submit(t.Context(), job, client.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := errors.Join(sub.Send(inputs("b")), sub.Seal()); err != nil {
		t.Fatal(err)
	}
	id, existed, err := sub.Accepted(t.Context())
	if id != first || !existed || err != nil {
		t.Errorf("%s, %v, %v; want %s", id, existed, err, first)
	}
	if st := last(t, sub.Progress(t.Context())); st.Counts.Succeeded != 1 {
		t.Errorf("%+v", st)
	}
}

func testKeysAtOnce(t *testing.T, c *client.Client) {
	const n = 8
	ids := make([]navvy.JobID, n)
	existed := make([]bool, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			sub, err := c.Submit(t.Context(), navvy.Job{IdempotencyKey: "k", Spec: shell("echo $1")}, client.SubmitOptions{Stream: i%2 == 0})
			if err != nil {
				t.Error(err)
				return
			}
			defer sub.Close()
			if err := errors.Join(sub.Send(inputs("a")), sub.Seal()); err != nil {
				t.Error(err)
				return
			}
			if ids[i], existed[i], err = sub.Accepted(t.Context()); err != nil {
				t.Error(err)
				return
			}
			for _, err := range sub.Progress(t.Context()) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(ids)
	if got := slices.Compact(ids); len(got) != 1 {
		t.Errorf("one key made these jobs: %q", got)
	}
	fresh := 0
	for _, e := range existed {
		if !e {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d submissions made the job", fresh)
	}
}
