package jobrunner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/jobrunner"
	"github.com/navvy-run/navvy/gateway/jobrunner/apis"
	"github.com/navvy-run/navvy/policy"
	"github.com/navvy-run/navvy/server/auth"
)

func start(t *testing.T, c apis.JobRunnerClient, cmd string, args ...string) *apis.JobId {
	t.Helper()
	id, err := c.Start(t.Context(), &apis.JobStart{Cmd: cmd, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// output reads a job's output to its end.
func output(ctx context.Context, c apis.JobRunnerClient, id *apis.JobId) ([]byte, error) {
	stream, err := c.StreamOutput(ctx, id)
	if err != nil {
		return nil, err
	}
	var all []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		all = append(all, m.GetOutput()...)
	}
}

func query(t *testing.T, c apis.JobRunnerClient, id *apis.JobId) apis.JobState {
	t.Helper()
	st, err := c.Query(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if st.GetId().GetId() != id.GetId() {
		t.Errorf("asked for %s, told of %s", id, st.GetId())
	}
	return st.GetStatus()
}

// A command is taken as it is, in a directory of its own, and ends as its exit code says.
func TestStartAndEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, unlimited(), nil)
	ann := w.as(t, "ann", auth.RoleUser)
	for _, c := range []struct {
		cmd  string
		args []string
		want string
		end  apis.JobState
	}{
		{"echo", []string{"{}", "a b", "$HOME", ""}, "{} a b $HOME \n", apis.JobState_COMPLETED},
		{"ls", []string{"-A"}, "", apis.JobState_COMPLETED},
		{"sh", []string{"-c", "echo out; echo err >&2; exit 3"}, "out\nerr\n", apis.JobState_FAILED},
		{"/no/such/program", nil, "", apis.JobState_FAILED},
	} {
		id := start(t, ann, c.cmd, c.args...)
		out, err := output(t.Context(), ann, id)
		if err != nil || string(out) != c.want {
			t.Errorf("%s %q: %q, %v, want %q", c.cmd, c.args, out, err, c.want)
		}
		if got := query(t, ann, id); got != c.end {
			t.Errorf("%s %q: %v, want %v", c.cmd, c.args, got, c.end)
		}
		if again, err := output(t.Context(), ann, id); err != nil || string(again) != c.want {
			t.Errorf("%s %q: after its end %q, %v", c.cmd, c.args, again, err)
		}
	}
}

// Any number of readers get each byte from the first, while the job runs.
func TestManyReaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, unlimited(), nil)
	ann := w.as(t, "ann", auth.RoleUser)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var all []byte
	var text strings.Builder
	for i := range 256 {
		all = append(all, byte(i))
		fmt.Fprintf(&text, `\%03o`, i)
	}
	id := start(t, ann, "sh", "-c", "printf '"+text.String()+"'; read line < "+fifo+"; printf '"+text.String()+"'")
	const readers = 50
	var first, reading sync.WaitGroup
	first.Add(readers)
	for range readers {
		reading.Go(func() {
			stream, err := ann.StreamOutput(t.Context(), id)
			var got []byte
			begun := sync.OnceFunc(first.Done)
			defer begun()
			for err == nil {
				var m *apis.JobStream
				if m, err = stream.Recv(); err == nil {
					got = append(got, m.GetOutput()...)
				}
				if len(got) >= len(all) {
					begun()
				}
			}
			if !errors.Is(err, io.EOF) || !bytes.Equal(got, append(bytes.Clone(all), all...)) {
				t.Errorf("read %d bytes: %v", len(got), err)
			}
		})
	}
	first.Wait()
	if got := query(t, ann, id); got != apis.JobState_INPROGRESS {
		t.Errorf("while it runs: %v", got)
	}
	f, err := os.OpenFile(fifo, os.O_RDWR, 0) // which waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("on\n"); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
}

// Stop returns when the whole tree has ended, also what has a session of its own; a
// second one changes nothing.
func TestStopTree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, unlimited(), nil)
	ann := w.as(t, "ann", auth.RoleUser)
	id := start(t, ann, "sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & wait")
	stream, err := ann.StreamOutput(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(m.GetOutput())))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := ann.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if got := query(t, ann, id); got != apis.JobState_STOPPED {
			t.Errorf("after the stop: %v", got)
		}
	}
	// A dead one may wait for its parent, which is the machine's init, to notice.
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !bytes.Contains(stat, []byte(") Z ")) {
		t.Errorf("the grandchild is still there: %s", stat)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("its output ends with %v", err)
	}
	// A stop right after a start.
	quick := start(t, ann, "sleep", "1000")
	if _, err := ann.Stop(t.Context(), quick); err != nil {
		t.Fatal(err)
	}
	if got := query(t, ann, quick); got != apis.JobState_STOPPED {
		t.Errorf("after a quick stop: %v", got)
	}
	done := start(t, ann, "true")
	if _, err := output(t.Context(), ann, done); err != nil {
		t.Fatal(err)
	}
	if _, err := ann.Stop(t.Context(), done); err != nil || query(t, ann, done) != apis.JobState_COMPLETED {
		t.Errorf("stop of what has ended: %v, %v", err, query(t, ann, done))
	}
}

// calls are those about a job.
var calls = map[string]func(context.Context, apis.JobRunnerClient, *apis.JobId) error{
	"stop": func(ctx context.Context, c apis.JobRunnerClient, id *apis.JobId) error {
		_, err := c.Stop(ctx, id)
		return err
	},
	"query": func(ctx context.Context, c apis.JobRunnerClient, id *apis.JobId) error {
		_, err := c.Query(ctx, id)
		return err
	},
	"stream": func(ctx context.Context, c apis.JobRunnerClient, id *apis.JobId) error {
		_, err := output(ctx, c, id)
		return err
	},
}

// Another's job answers as if there were none; an admin sees and stops it.
func TestAnothersJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, unlimited(), nil)
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	id := start(t, ann, "sleep", "1000")
	for what, call := range calls {
		err := call(t.Context(), bob, id)
		if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "job "+id.GetId()+": not found" {
			t.Errorf("bob: %s: %v", what, err)
		}
	}
	eve := w.as(t, "eve", auth.RoleViewer)
	if got := query(t, eve, id); got != apis.JobState_INPROGRESS {
		t.Errorf("a viewer is told %v", got)
	}
	if _, err := eve.Stop(t.Context(), id); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a viewer stops it: %v", err)
	}
	root := w.as(t, "root", auth.RoleAdmin)
	if _, err := root.Stop(t.Context(), id); err != nil || query(t, root, id) != apis.JobState_STOPPED {
		t.Errorf("an admin stops it: %v", err)
	}
	for job, err := range w.inside().Jobs(t.Context()) {
		if err != nil || job.Owner != "ann" || !job.Detached {
			t.Errorf("navvy says that it is %q's, detached %t, %v", job.Owner, job.Detached, err)
		}
	}
}

// What names no job is told from what is no name at all.
func TestUnknownJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, unlimited(), nil)
	ann := w.as(t, "ann", auth.RoleUser)
	gone := start(t, ann, "true")
	if _, err := output(t.Context(), ann, gone); err != nil {
		t.Fatal(err)
	}
	for job, err := range w.inside().Jobs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.inside().Remove(t.Context(), job.ID, true); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]codes.Code{
		"":                                     codes.InvalidArgument,
		"garbage":                              codes.InvalidArgument,
		"6ba7b810-9dad-11d1-80b4-00c04fd430cg": codes.InvalidArgument,
		"6ba7b8109-dad-11d1-80b4-00c04fd430c8": codes.InvalidArgument,
		"6ba7b810-9dad-11d1-80b4-00c04fd430c8": codes.NotFound,
		gone.GetId():                           codes.NotFound,
	} {
		for what, call := range calls {
			if err := call(t.Context(), ann, &apis.JobId{Id: id}); status.Code(err) != want {
				t.Errorf("%s %q: %v, want %v", what, id, err, want)
			}
		}
	}
}

// A level is a table of limits; the highest is for administrators, and all are bound by the policy.
func TestLevels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil) // the real ones: whether the jobs can run here does not matter
	ann, root := w.as(t, "ann", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	if _, err := ann.Start(t.Context(), &apis.JobStart{Cmd: "true", Level: apis.JobResourceUsage_ELEVATED}); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "ELEVATED is for the role admin") {
		t.Errorf("a user asks for the highest level: %v", err)
	}
	for _, req := range []*apis.JobStart{{}, {Cmd: "a", Level: 3}, {Cmd: "a", Level: -1}, {Cmd: "a\x00b"}} {
		if _, err := root.Start(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	for level, want := range jobrunner.DefaultLevels() {
		if _, err := root.Start(t.Context(), &apis.JobStart{Cmd: "true", Level: level}); err != nil {
			if !w.enforces(t) && status.Code(err) == codes.Unimplemented {
				continue // a machine by itself refuses what it cannot enforce
			}
			t.Fatal(err)
		}
		for job, err := range w.inside().Jobs(t.Context()) { // the newest first
			if err != nil || job.Owner != "root" || job.Spec.Limits.Memory != want.Limits.Memory || job.Spec.Limits.CPUs != want.Limits.CPUs || !job.Spec.Isolate {
				t.Errorf("%v became %+v, %v", level, job.Spec, err)
			}
			break
		}
	}
}

// enforces tells whether this machine can do what the default levels ask for.
func (w *world) enforces(t *testing.T) bool {
	t.Helper()
	o, err := w.inside().Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range o.GetAbilities() {
		if len(a.GetEnforces()) > 8 {
			return true
		}
	}
	return false
}

// What is above the ceiling of the policy is refused.
func TestPolicy(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse("policy.yaml", []byte("roles:\n  user:\n    ceilings:\n      memory: 64MiB\n"))
	if err != nil {
		t.Fatal(err)
	}
	levels := unlimited()
	levels[apis.JobResourceUsage_STANDARD] = jobrunner.Level{Limits: navvy.Limits{Memory: 128 << 20}}
	w := newWorld(t, levels, p)
	_, err = w.as(t, "ann", auth.RoleUser).Start(t.Context(), &apis.JobStart{Cmd: "true", Level: apis.JobResourceUsage_STANDARD})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "above the ceiling for jobs of role user") {
		t.Errorf("a level above the policy's ceiling: %v", err)
	}
}
