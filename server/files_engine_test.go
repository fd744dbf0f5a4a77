package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine/memory"
	"github.com/navvy-run/navvy/server/auth"
)

// newEngineWorld is a world whose engine keeps the files of owners.
func newEngineWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, auth.Ed25519, false)
	w.grpc.Stop()
	if err := w.files.Close(); err != nil {
		t.Error(err)
	}
	w.inEngine = true
	w.serve(t, auth.Ed25519, false)
	return w
}

// With the files in the engine, too, what an attempt has made is there when its result is,
// and a crash between both loses neither: results, files, and the names of files are one store.
func TestPublishInEngine(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t)
	stop := background(t, w.mgr.Run)
	ann, conn := w.as(t, "ann", auth.RoleUser), w.conn(t, "w", auth.RoleWorker)
	by := client.NewWorkers(conn)
	large := strings.Repeat("0123456789abcdef", 1<<16)
	if _, err := ann.Files().Put(t.Context(), "out/g", strings.NewReader("old"), client.PutFileOptions{}); err != nil {
		t.Fatal(err)
	}
	lost := w.lease(t, ann, conn)
	lost.makes(t, by, "out/f", "of one that fails")
	lost.ends(t, navvy.OutcomeFailed)
	w.awaits(t, lost.ref.Task.Job)
	if err := lost.Leave(); err != nil {
		t.Error(err)
	}
	won := w.lease(t, ann, conn)
	won.makes(t, by, "out/f", large)
	won.makes(t, by, "out/g", "new")
	won.ends(t, navvy.OutcomeSucceeded)
	w.awaits(t, won.ref.Task.Job)
	if n := w.hidden(t); n != 3 {
		t.Fatalf("%d files wait, want 3: nobody has looked yet", n)
	}
	w.grpc.Stop()
	stop()
	w.store = w.store.(*memory.Store).Crash()
	w.serve(t, auth.Ed25519, false)
	if err := w.srv.LoadFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.hidden(t); n != 0 {
		t.Errorf("%d files of attempts are left", n)
	}
	files := w.as(t, "ann", auth.RoleUser).Files()
	if got := fileNames(t, files, ""); got != "out/f out/g" || text(t, files, "out/f") != large || text(t, files, "out/g") != "new" {
		t.Errorf("there are %s", got)
	}
	v, err := w.eng.Verify(t.Context(), func(err error) { t.Error(err) })
	if err != nil || v.Files != 2 || v.FileBytes != int64(len(large))+3 {
		t.Errorf("%+v, %v", v, err)
	}
}

// The files of owners in the engine are listed as those in a directory, and only to them.
func TestFilesInEngine(t *testing.T) {
	t.Parallel()
	w := newEngineWorld(t)
	ann, bob := w.as(t, "ann", auth.RoleUser).Files(), w.as(t, "bob", auth.RoleUser).Files()
	var want []string
	for i := range 300 { // more than one message
		key := fmt.Sprintf("in/%03d", i)
		want = append(want, key)
		if _, err := ann.Put(t.Context(), key, strings.NewReader(key), client.PutFileOptions{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fileNames(t, ann, "in/"); got != strings.Join(want, " ") {
		t.Errorf("%s", got)
	}
	if got := fileNames(t, bob, ""); got != "" || text(t, bob, "in/000") != "nothing" {
		t.Errorf("bob sees %s", got)
	}
}
