package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/runner/driver"
)

// listing is a server that has so many empty files in each folder but "none".
type listing struct {
	navvyv1.UnimplementedTaskFilesServer
	files int
	size  int64
}

func (l *listing) List(req *navvyv1.TaskFilesListRequest, stream grpc.ServerStreamingServer[navvyv1.FilesListResponse]) error {
	m := &navvyv1.FilesListResponse{}
	prefix := req.GetCall().GetPrefix()
	for i := range l.files {
		if prefix != "none/" {
			m.Files = append(m.Files, &navvyv1.File{Key: fmt.Sprintf("%sf%05d", prefix, i), Size: l.size})
		}
	}
	return stream.Send(m)
}

// stagerAt stages folders from such a server.
func stagerAt(t *testing.T, l *listing, o Options, spec *navvy.Spec) *stager {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	s := grpc.NewServer()
	navvyv1.RegisterTaskFilesServer(s, l)
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w := &Worker{server: client.NewWorkers(conn), opts: o, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return &stager{attempt: &attempt{worker: w, spec: spec}, job: &client.WorkJob{Owner: "ann"}, input: []byte("x")}
}

func mounting(folders ...navvy.StagedFolder) *navvy.Spec {
	return &navvy.Spec{Command: &navvy.Command{Args: []string{"x"}}, Isolate: true, Stage: navvy.Stage{Mounts: folders}}
}

// A folder without an end, or with nothing in it, fails the task for good.
func TestMountBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listing
		from, words string
	}{
		"too many":  {listing{files: maxMountFiles + 1}, "many", "more than 10000 files"},
		"too large": {listing{files: 2, size: maxMountBytes}, "large", "more than"},
		"empty":     {listing{files: 9}, "none", "there is no folder share://default/none of ann"},
	} {
		s := stagerAt(t, &c.listing, Options{}, mounting(navvy.StagedFolder{From: c.from}))
		mounts, err := s.Mounts(t.Context())
		if err != nil || mounts != nil {
			t.Errorf("%s: %v, %v without a share of its own", name, mounts, err)
		}
		dir := t.TempDir()
		err = s.Bring(t.Context(), dir)
		if refusal, ok := errors.AsType[*driver.Refusal](err); !ok || refusal.Reason != navvy.ReasonInput || !strings.Contains(refusal.Message, c.words) {
			t.Errorf("%s: %v", name, err)
		}
		if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
			t.Errorf("%s: there are %v, %v", name, there, err)
		}
	}
}

// A worker with the share itself shows what is there of the owner, and copies the rest;
// tasks that could look around there, and are not its one owner's, have copies.
func TestMounts(t *testing.T) {
	t.Parallel()
	find := func(_, owner, folder string) (string, error) {
		if owner != "ann" || folder == "elsewhere" {
			return "", errors.New("it is not here")
		}
		return "/share/" + folder, nil
	}
	both := mounting(navvy.StagedFolder{From: "ref/{}", To: "data/{}"}, navvy.StagedFolder{From: "elsewhere"}, navvy.StagedFolder{From: ".", To: "all"})
	s := stagerAt(t, &listing{files: 1}, Options{ShareFolder: find}, both)
	mounts, err := s.Mounts(t.Context())
	if err != nil || len(mounts) != 2 || mounts[0] != (driver.Mount{Source: "/share/ref/x", Path: "data/x"}) || mounts[1] != (driver.Mount{Source: "/share/", Path: "all"}) {
		t.Errorf("%+v, %v", mounts, err)
	}
	if s.folders[0].mounted == s.folders[1].mounted {
		t.Error("a folder that is not here is not copied, or one that is here is")
	}
	open := *both
	open.Isolate = false
	for owner, want := range map[string]int{"": 0, "ann": 2} {
		s := stagerAt(t, &listing{files: 1}, Options{ShareFolder: find, SingleOwner: owner}, &open)
		if mounts, err := s.Mounts(t.Context()); err != nil || len(mounts) != want {
			t.Errorf("not isolated, on a worker of %q: %+v, %v", owner, mounts, err)
		}
	}
	s = stagerAt(t, &listing{files: 1}, Options{ShareFolder: find}, mounting(navvy.StagedFolder{From: "none"}))
	if _, err := s.Mounts(t.Context()); err == nil {
		t.Error("a folder with nothing in it is mounted")
	}
}

// Folders in one another, and files in them, are refused wherever the task runs: what they
// would be depends on that. Beside one another they are found.
func TestMountsApart(t *testing.T) {
	t.Parallel()
	find := func(_, _, folder string) (string, error) { return "/share/" + folder, nil }
	for _, o := range []Options{{}, {ShareFolder: find}, {ShareFolder: find, SingleOwner: "ann"}} {
		for _, c := range []struct {
			mounts []navvy.StagedFolder
			in     []navvy.StagedInput
			fine   bool
		}{
			{mounts: []navvy.StagedFolder{{From: "a", To: "d"}, {From: "b", To: "d/e"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d/e/f"}, {From: "b", To: "d"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d"}, {From: "b", To: "./d"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d"}, {From: "b", To: "{}/e"}, {From: "c", To: "x"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d"}}, in: []navvy.StagedInput{{From: "f", To: "d/f"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d"}}, in: []navvy.StagedInput{{From: "d"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d/{}"}}, in: []navvy.StagedInput{{From: "f", To: "d"}}},
			{mounts: []navvy.StagedFolder{{From: "a", To: "{}"}}, in: []navvy.StagedInput{{From: "x/f"}}},
			{mounts: []navvy.StagedFolder{{From: "a"}, {From: "a/b", To: "b"}, {From: "a", To: "ab"}}, in: []navvy.StagedInput{{From: "a.b"}, {From: "a/c", To: "c/a"}}, fine: true},
			{mounts: []navvy.StagedFolder{{From: "a", To: "d/e"}, {From: "b", To: "d/f"}}, in: []navvy.StagedInput{{From: "g", To: "d/g"}}, fine: true},
		} {
			spec := mounting(c.mounts...)
			spec.Stage.In = c.in
			_, err := stagerAt(t, &listing{files: 1}, o, spec).Mounts(t.Context())
			refusal, ok := errors.AsType[*driver.Refusal](err)
			if c.fine && err != nil || !c.fine && (!ok || refusal.Reason != navvy.ReasonInput) {
				t.Errorf("%+v: %v", spec.Stage, err)
			}
		}
	}
}

// A worker that has another share than the server's copies, and says so once in a session.
func TestMountsOfAnotherShare(t *testing.T) {
	t.Parallel()
	find := func(id, _, folder string) (string, error) {
		if id != "its id" {
			return "", fmt.Errorf("another share: %w", navvy.ErrConflict)
		}
		return "/share/" + folder, nil
	}
	s := stagerAt(t, &listing{files: 1}, Options{ShareFolder: find}, mounting(navvy.StagedFolder{From: "a"}, navvy.StagedFolder{From: "b"}))
	var log bytes.Buffer
	s.worker.log = slog.New(slog.NewTextHandler(&log, nil))
	for _, c := range []struct {
		id           string
		mounts, said int
	}{{"its id", 2, 0}, {"", 0, 1}, {"another", 0, 2}, {"its id", 2, 2}} {
		s.worker.changed = make(chan struct{})
		s.worker.setLink(&link{t.Context(), c.id})
		for range 3 {
			mounts, err := s.Mounts(t.Context())
			if err != nil || len(mounts) != c.mounts {
				t.Errorf("%q: %+v, %v", c.id, mounts, err)
			}
		}
		if said := strings.Count(log.String(), "does not have the server's share"); said != c.said {
			t.Errorf("%q: %d lines, want %d", c.id, said, c.said)
		}
	}
	if s.folders[0].to != "a" || !s.folders[0].mounted {
		t.Errorf("%+v", s.folders[0])
	}
}
