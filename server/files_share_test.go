package server_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/server/auth"
)

// welcomed tells by what a server's share is known to a worker.
func (w *world) welcomed(t *testing.T, name string, returns bool) string {
	t.Helper()
	session, err := client.NewWorkers(w.conn(t, name, auth.RoleWorker)).Work(t.Context(), client.WorkerInfo{Name: name, Kinds: []string{navvy.KindCommand}, Slots: 1, Returns: returns})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Leave(); err != nil {
		t.Error(err)
	}
	return session.Share
}

// Workers of other machines are told what is in a file of the share, which no owner reaches,
// and which is another one with the next server.
func TestShareID(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]*world{"directory": newWorld(t, auth.Ed25519, false), "engine": newEngineWorld(t)} {
		if id := w.welcomed(t, "local", false); id != "" {
			t.Errorf("%s: a worker in the process is told %q", name, id)
		}
		if f, err := w.files.Stat(t.Context(), server.ShareIDFile); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s: nobody needs it, and there is %+v, %v", name, f, err)
		}
		id := w.welcomed(t, "w", true)
		if there := w.sharedID(t); len(id) < 20 || there != id {
			t.Errorf("%s: the worker is told %q, and there is %q", name, id, there)
		}
		if again := w.welcomed(t, "v", true); again != id {
			t.Errorf("%s: another worker is told %q, and not %q", name, again, id)
		}
		ann := w.as(t, "ann", auth.RoleUser)
		if list := fileNames(t, ann.Files(), ""); len(list) != 0 {
			t.Errorf("%s: ann has %q", name, list)
		}
		for _, key := range []string{server.ShareIDFile, "../" + server.ShareIDFile, "../../" + server.ShareIDFile, "/" + server.ShareIDFile} {
			if _, err := ann.Files().Put(t.Context(), key, strings.NewReader("hers"), client.PutFileOptions{}); err == nil && key != server.ShareIDFile {
				t.Errorf("%s: ann writes %s", name, key)
			}
		}
		if again := w.sharedID(t); again != id {
			t.Errorf("%s: it has become %q", name, again)
		}
		w.grpc.Stop()
		w.serve(t, auth.Ed25519, false)
		if next := w.welcomed(t, "w", true); next == id || next != w.sharedID(t) {
			t.Errorf("%s: the next server says %q after %q, and there is %q", name, next, id, w.sharedID(t))
		}
	}
}

// sharedID is what is in the file.
func (w *world) sharedID(t *testing.T) string {
	t.Helper()
	var text bytes.Buffer
	if _, err := w.files.Copy(t.Context(), server.ShareIDFile, &text, nil); err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(text.String())
}
